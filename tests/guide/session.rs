//! What a reader does: terminals in which commands are typed, one directory for all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use std::os::unix::process::CommandExt as _;

use crate::common::eventually;
use crate::common::process::Process;
use crate::common::scratch::Directory;
use crate::markdown::{Block, Chapter, Kind};

/// A command that takes longer is stuck: that of STUN waits for silence.
const LIMIT: Duration = Duration::from_secs(90);

/// One reading of the guide.
pub(crate) struct Session {
    directory: Directory,
    environment: BTreeMap<&'static str, String>,
    /// What stands in the guide, and what stands for it here.
    instead: Vec<(String, String)>,
    shell: Terminal,
    /// The commands that stay, the last one last.
    staying: Vec<Terminal>,
    count: usize,
}

impl Session {
    /// A new one. `sip-proxy` is the program under test; `instead` are addresses that the test has of its own.
    pub(crate) fn new(label: &str, name_server: &str, instead: Vec<(String, String)>) -> Self {
        let directory = Directory::new(label);
        let programs = directory.path().join("bin");
        std::fs::create_dir(&programs).expect("a new directory");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sip-proxy"), programs.join("sip-proxy"))
            .expect("a new directory takes links");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let environment = BTreeMap::from([
            ("PATH", path),
            ("HOME", directory.path().display().to_string()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("SIP_PROXY__DNS__NAME_SERVERS", name_server.to_owned()),
        ]);
        let shell = Terminal::open("shell", &environment, directory.path().to_owned());
        Self { directory, environment, instead, shell, staying: Vec::new(), count: 0 }
    }

    /// Does what a chapter says, block by block.
    pub(crate) async fn follow(&mut self, chapter: &Chapter) {
        let mut blocks = chapter.blocks.iter().peekable();
        while let Some(block) = blocks.next() {
            let place = format!("{}:{}", chapter.path.display(), block.line);
            let output =
                blocks.peek().filter(|next| next.kind == Kind::Output).map(|next| next.text.as_str());
            match block.kind {
                Kind::Commands(status) => self.run(&place, block, status, output).await,
                Kind::Stays => self.stay(&place, block, output).await,
                Kind::Earlier => {
                    let terminal = self.staying.last().expect("a command that stays");
                    terminal.shows(&place, &self.here(&block.text)).await;
                }
                Kind::Output | Kind::Picture | Kind::Console | Kind::Toml | Kind::Other => {}
            }
        }
    }

    async fn run(&mut self, place: &str, block: &Block, status: i32, output: Option<&str>) {
        let script = self.script(&block.text);
        let before = self.shell.process.output().len();
        self.count += 1;
        let end = format!("== end of block {} ==", self.count);
        self.shell.process.tell(&format!(
            "failed=0; . {} </dev/null; printf '\\n%s %s %s\\n' '{end}' \"$failed\" \"$PWD\"",
            script.display()
        ));
        let process = &self.shell.process;
        let printed = eventually(LIMIT, place, || {
            let all = process.output().split_off(before);
            all.find(&end).filter(|at| all[*at..].contains('\n')).map(|_| all)
        })
        .await;
        let (printed, last) = printed.split_once(&end).expect("it has been found");
        let (ended, directory) = last.trim().split_once(' ').expect("status and directory");
        assert_eq!(ended, status.to_string(), "{place}: status\n{}\n{printed}", block.text);
        self.shell.directory = PathBuf::from(directory);
        let expected = self.here(output.unwrap_or_default());
        assert!(
            shows(&expected, printed),
            "{place}:\n{}\n-- expected --\n{expected}\n-- printed --\n{printed}",
            block.text
        );
    }

    async fn stay(&mut self, place: &str, block: &Block, output: Option<&str>) {
        let script = self.script(&block.text);
        let mut terminal = Terminal::open("terminal", &self.environment, self.shell.directory.clone());
        terminal.process.tell(&format!(". {} </dev/null", script.display()));
        terminal.shows(place, &self.here(output.unwrap_or_default())).await;
        self.staying.push(terminal);
    }

    fn script(&mut self, text: &str) -> PathBuf {
        self.count += 1;
        self.directory.write(&format!("block-{}", self.count), self.here(text))
    }

    fn here(&self, text: &str) -> String {
        self.instead.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }
}

/// A shell, and what it has printed.
struct Terminal {
    process: Process,
    directory: PathBuf,
}

impl Terminal {
    fn open(name: &str, environment: &BTreeMap<&'static str, String>, directory: PathBuf) -> Self {
        let mut command = Command::new("bash");
        // A group of its own, so that its end is the end of what was started in it.
        command
            .args(["--noprofile", "--norc"])
            .env_clear()
            .envs(environment)
            .current_dir(&directory)
            .process_group(0);
        let mut process = Process::start(name, &mut command);
        process.tell("exec 2>&1; set -E -o pipefail; trap 'failed=$?' ERR");
        Self { process, directory }
    }

    async fn shows(&self, place: &str, expected: &str) {
        let what = format!("{place}: {expected:?} is shown");
        eventually(LIMIT, &what, || shows(expected, &self.process.output()).then_some(())).await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let group = self.process.id();
        // What has ended already is what is wanted.
        let _ = Command::new("bash").args(["-c", &format!("kill -TERM -- -{group} 2>/dev/null")]).status();
    }
}

/// Whether the lines of `expected` stand in `printed`, in their order; `...` is whatever there is.
pub(crate) fn shows(expected: &str, printed: &str) -> bool {
    let mut printed = printed.lines();
    let mut lines = expected.lines().map(str::trim_end).filter(|line| !line.is_empty() && *line != "...");
    lines.all(|line| printed.any(|printed| fits(line, printed.trim_end())))
}

/// Whether a line is what was expected, with `...` for any part of it.
fn fits(expected: &str, line: &str) -> bool {
    let Some((start, rest)) = expected.split_once("...") else { return expected == line };
    let Some(mut left) = line.strip_prefix(start) else { return false };
    let parts: Vec<&str> = rest.split("...").collect();
    let (last, middle) = parts.split_last().expect("split gives one part at least");
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[test]
fn dots_stand_for_any_part_of_a_line() {
    for (expected, line, fit) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a...", "ab", true),
        ("...b", "ab", true),
        ("a...b...c", "a-b-c", true),
        ("a...b...c", "a-c", false),
        ("...x...", "ab", false),
        ("a...a", "a", false),
    ] {
        assert_eq!(fits(expected, line), fit, "{expected} {line}");
    }
    assert!(shows("a\n...\nc\n", "x\na\nb\nc"));
    assert!(!shows("c\na\n", "a\nc"));
}
