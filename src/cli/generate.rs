//! What packagers install beside the program, made from the same definitions as the command line itself.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Arguments, Exit};

/// `completions`.
pub(super) fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sip-proxy", &mut script);
    print(&script)
}

/// `man`: one page for each command, `sip-proxy.1` and `sip-proxy-COMMAND.1`.
pub(super) fn manual(directory: Option<&Path>) -> Exit {
    let command = Arguments::command();
    let Some(directory) = directory else {
        return match page(command) {
            Ok(page) => print(&page),
            Err(fault) => fail(&fault),
        };
    };
    let written = fs::create_dir_all(directory).and_then(|()| write(command, "sip-proxy", directory));
    match written {
        Ok(()) => Exit::Done,
        Err(fault) => fail(&io::Error::new(fault.kind(), format!("{}: {fault}", directory.display()))),
    }
}

/// Writes the page of a command and those of the commands below it.
fn write(command: clap::Command, name: &str, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        write(below.clone(), &format!("{name}-{}", below.get_name()), directory)?;
    }
    let name: &'static str = name.to_owned().leak();
    fs::write(directory.join(format!("{name}.1")), page(command.name(name))?)
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}

/// Whoever has closed the other end does not want to read.
fn print(octets: &[u8]) -> Exit {
    let _ = io::stdout().write_all(octets);
    Exit::Done
}

fn fail(fault: &io::Error) -> Exit {
    eprintln!("{fault}");
    Exit::No
}
