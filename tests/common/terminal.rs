//! Pseudo-terminals, for what people see and type.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

/// A pseudo-terminal: our side of it, and the one for a process.
pub fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (File::from(ours), theirs)
}

/// Runs a command on a terminal of this width to its end, which must be a good one, and returns
/// what it shows there.
#[track_caller]
pub fn shown(mut command: Command, columns: u16) -> String {
    let (mut ours, theirs) = terminal();
    let mut size = tcgetwinsize(&theirs).unwrap();
    (size.ws_row, size.ws_col) = (24, columns);
    tcsetwinsize(&theirs, size).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut child = command.spawn().unwrap();
    // It holds the other side open, too.
    drop(command);
    let mut bytes = Vec::new();
    // Ends with an error (EIO) once nobody holds the other side.
    ours.read_to_end(&mut bytes).ok();
    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
    assert!(child.wait().unwrap().success(), "{text}");
    text
}
