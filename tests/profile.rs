//! The release build takes the profile of what the proxy does most, and other builds do not.

use std::path::PathBuf;
use std::process::Command;

const WRAPPER: &str = "benches/profile/rustc";
const PROFILE: &str = "benches/profile/sip-proxy.profdata";

/// What LLVM's indexed profiles begin with.
const MAGIC: &[u8] = b"\xfflprofi\x81";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What the compiler is given where cargo calls for it with `arguments`; from another folder, as for a dependency.
fn compiled_with(arguments: &[&str]) -> String {
    let printed = Command::new(root().join(WRAPPER)).arg("echo").args(arguments).current_dir("/").output();
    let printed = printed.expect("the wrapper runs");
    assert!(printed.status.success(), "{printed:?}");
    String::from_utf8(printed.stdout).expect("text").trim_end().to_owned()
}

#[test]
fn cargo_compiles_by_the_wrapper() {
    let settings = std::fs::read_to_string(root().join(".cargo/config.toml")).expect("cargo's settings");
    let settings: toml::Table = settings.parse().expect("TOML");
    assert_eq!(settings["build"]["rustc-wrapper"].as_str(), Some(WRAPPER));
}

#[test]
fn an_optimised_build_takes_the_profile() {
    let profile = root().join(PROFILE);
    let expected = format!("a.rs -C opt-level=3 -C profile-use={}", profile.display());
    let given = compiled_with(&["a.rs", "-C", "opt-level=3"]);
    assert!(given.starts_with(&expected), "{given}");
    assert!(std::fs::read(profile).expect("the profile").starts_with(MAGIC));
}

#[test]
fn every_other_build_is_left_alone() {
    for arguments in [&["-vV"][..], &["a.rs", "-C", "opt-level=1"], &["opt-level=3.rs", "--cfg", "a b"]] {
        assert_eq!(compiled_with(arguments), arguments.join(" "));
    }
}

/// The tests are compiled with a variable that not every shell hands on.
#[test]
fn the_compiler_has_the_environment_that_cargo_gives() {
    let printed =
        Command::new(root().join(WRAPPER)).arg("env").env("CARGO_BIN_EXE_sip-proxy", "a b").output();
    let printed = String::from_utf8(printed.expect("the wrapper runs").stdout).expect("text");
    assert!(printed.lines().any(|line| line == "CARGO_BIN_EXE_sip-proxy=a b"), "{printed}");
}

#[test]
fn the_profile_knows_the_way_of_a_message() {
    let profile = std::fs::read(root().join(PROFILE)).expect("the profile");
    // As the compiler names them: the crate, then each module, with its length before it.
    let names = [
        "8protocol5proxy5Proxy14handle_message",
        "6actors6router6Router6settle",
        "8protocol8location8Location15handle_question",
    ];
    for name in names {
        let is_known = memchr::memmem::find(&profile, format!("_ZN9sip_proxy{name}").as_bytes()).is_some();
        assert!(is_known, "{name} has moved: benches/profile/train takes the profile anew");
    }
}
