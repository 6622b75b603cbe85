//! Standard output and standard error, for commands that answer there.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

use super::exit::Failure;
use super::look::{Look, LookMark};
use crate::log::{printable, printable_lines};

/// Writes to standard output, and flushes it: a reader acts on each line as it comes.
///
/// # Errors
/// [`Failure::Closed`] if nobody reads any more.
pub(super) fn write(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(bytes.as_ref())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => anyhow::Error::new(error)
            .context("cannot write to standard output")
            .into(),
    })
}

/// As [`write`], for bytes that others wrote: as they are, but on a terminal only what is printable.
pub(super) fn write_foreign(bytes: &[u8]) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        write(printable_lines(bytes))
    } else {
        write(bytes)
    }
}

/// As [`write`], for lines about what was found; those that warn are marked.
pub(super) fn report(lines: &str) -> Result<(), Failure> {
    let look = Look::of_stdout();
    let mut text = String::new();
    for line in lines.lines() {
        let warns = line.starts_with("warning: ");
        look.line(&mut text, line, warns.then_some(LookMark::Trouble));
    }
    write(text)
}

/// Waits until nobody reads standard output any more; for ever where that can't be told, as of a
/// file. Without it, a command that waits would outlive its reader until the next line.
pub(super) async fn closed() {
    let (tell, told) = oneshot::channel();
    // On a thread, and not as a descriptor of the runtime's: that would have to be non-blocking,
    // and so would the terminal that it may share with the shell.
    let watch = move || {
        let stdout = io::stdout();
        // Nothing is asked for: errors and hang-ups are told in any case.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        if poll(&mut watched, None).is_ok() {
            tell.send(()).ok();
        }
    };
    // Without the thread it is told by the next line.
    drop(std::thread::Builder::new().spawn(watch));
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How many characters fit on a line of standard output; `None` if it is no terminal.
pub(super) fn width() -> Option<usize> {
    width_of(&io::stdout())
}

/// How many characters fit on a line of this terminal; `None` if it is none.
pub(super) fn width_of(terminal: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Says on standard error what went wrong, in one line: whatever a member of the store or another
/// candidate has put into it.
pub(super) fn complain(what: impl Display) {
    complain_in_lines([format_args!("incumbent: {what}")]);
}

/// As [`complain`], for lines that name us themselves.
pub(super) fn complain_in_lines(lines: impl IntoIterator<Item = impl Display>) {
    let lines = lines
        .into_iter()
        .map(|line| printable(&line.to_string()) + "\n");
    // Nobody is left to be told that this failed.
    io::stderr()
        .lock()
        .write_all(lines.collect::<String>().as_bytes())
        .ok();
}
