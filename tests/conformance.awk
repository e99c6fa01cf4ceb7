# How many statements of the table hold, by the log of `cargo test`: awk -v quick=0 -f conformance.awk TABLE LOG
#
# A statement holds when each of its tests has passed. With quick=1 those that need a target that has not run are
# passed over. Those with `missing` are told and not judged. The status is 0 when all that were judged hold, and there
# are some.

# The table: the strings of each `tests` array, which may take several lines.
FNR == NR {
    if (/^\[/) {
        statement = $0
        gsub(/[][]/, "", statement)
        statements[++count] = statement
    }
    if (/^missing = /) missing[statement] = $0
    if (/^tests = \[/) listing = 1
    while (listing && match($0, /"[^"]*"/)) {
        tests[statement] = tests[statement] " " substr($0, RSTART + 1, RLENGTH - 2)
        $0 = substr($0, RSTART + RLENGTH)
    }
    if (/\]$/) listing = 0
    next
}

# The log, which may have colours.
{
    gsub(/\033\[[0-9;]*m/, "")
}

/^ *Running / {
    target = $2
    sub(/^tests\//, "", target)
    sub(/(\/main)?\.rs$/, "", target)
    ran[target] = 1
}

/^test .* \.\.\. ok$/ {
    passed[target "::" $2] = 1
}

END {
    for (place = 1; place <= count; place++) judge(statements[place])
    printf "conformance: %d of %d statements hold%s\n", holding, judged, left_out ? ", " left_out " left out" : ""
    exit holding < judged || judged == 0
}

function judge(statement,    names, total, place, target, failing) {
    if (statement in missing) {
        left_out++
        sub(/^missing = /, "", missing[statement])
        printf "conformance: %s is left out: %s\n", statement, missing[statement]
        return
    }
    total = split(tests[statement], names, " ")
    for (place = 1; place <= total; place++) {
        target = names[place]
        sub(/::.*/, "", target)
        if (quick && !(target in ran)) return
        if (!(names[place] in passed)) failing = failing " " names[place]
    }
    judged++
    if (total > 0 && failing == "") {
        holding++
    } else {
        printf "conformance: %s does not hold:%s has not passed\n", statement, failing
    }
}
