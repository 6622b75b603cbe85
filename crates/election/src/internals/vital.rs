//! Threads that this process can't do without: when one ends, however it ends, the process ends with
//! it, and guardian, stop hook and service manager do the rest (R15).

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

thread_local! {
    /// Whether the process ends with this thread.
    static IS_VITAL: Cell<bool> = const { Cell::new(false) };
}

/// What writes the last lines of the log; bounded in time.
static LAST_WORDS: OnceLock<fn()> = OnceLock::new();

/// Has panics told by a line of the log, not by a write to standard error, for which the thread would
/// wait (R14), and has a panic of a thread that was [started](spawn) here end the process. The calling
/// thread is one of them from now on.
///
/// Other threads, which are a Rust job's, may panic and leave the process as it is. `last_words` writes
/// what was logged before the process ends, or gives up after a moment.
pub fn watch(last_words: fn()) {
    LAST_WORDS.get_or_init(|| last_words);
    IS_VITAL.set(true);
    std::panic::set_hook(Box::new(panicked));
}

/// Starts a thread, which ends by itself only when its owner has no more use for it: an error of its
/// body ends the process, as does a panic once [`watch`] was called.
///
/// # Errors
/// Fails if there is no thread to be had.
pub fn spawn(name: &str, body: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let body = move || {
        IS_VITAL.set(true);
        if let Err(error) = body() {
            let thread = name_of_this();
            tracing::error!(thread, %error, "thread failed");
            end();
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
}

/// As [`spawn`], for a thread with a runtime of its own, on which `body` is to run.
///
/// # Errors
/// Fails if there is no thread or no runtime to be had.
pub fn spawn_with_runtime(
    name: &str,
    mut builder: tokio::runtime::Builder,
    body: impl FnOnce(Runtime) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    // Made here, since the thread may have to wait for a processor, and a launch would wait for the
    // thread.
    let mut unstarted = Unstarted(Some(builder.enable_all().build()?));
    spawn(name, move || unstarted.0.take().map_or(Ok(()), body))
}

/// A runtime, until the thread is there that it was made for. Unlike the runtime itself it may be
/// dropped where an asynchronous caller has to.
struct Unstarted(Option<Runtime>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for the next word of a task that lives as long as this one.
///
/// # Cancel safety
/// Safe.
pub async fn heard<T>(from: &mut mpsc::UnboundedReceiver<T>, who: &str) -> T {
    match from.recv().await {
        Some(word) => word,
        None => gone(who),
    }
}

/// Ends the process because something that it can't do without is gone.
pub fn gone(who: &str) -> ! {
    tracing::error!(who, "gone without a word");
    end()
}

/// Ends the process at once, after its last lines were written or could not be.
///
/// Neither destructors nor exit handlers run: they could wait for what has just failed.
pub fn end() -> ! {
    if let Some(last_words) = LAST_WORDS.get() {
        last_words();
    }
    _ = kill_process(getpid(), Signal::KILL);
    // The first process of a container is spared by its own signals.
    std::process::abort()
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let (thread, said) = (name_of_this(), message(panic.payload()));
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_default();
    if IS_VITAL.get() {
        tracing::error!(thread, said, place, "thread panicked");
        end();
    }
    tracing::warn!(thread, said, place, "thread panicked");
}

/// What a panic said.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

fn name_of_this() -> String {
    let name = thread::current().name().map(ToOwned::to_owned);
    name.unwrap_or_else(|| "unnamed".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Chooses how the child of [`end_of`] ends.
    const HOW: &str = "INCUMBENT_VITAL_TEST";

    /// What [`end_of`] runs in a process of its own.
    #[test]
    #[ignore = "ends the process"]
    #[allow(
        clippy::exit,
        clippy::print_stderr,
        reason = "what is tried is how it ends, and what it writes"
    )]
    fn child() {
        let Ok(how) = std::env::var(HOW) else { return };
        watch(|| eprintln!("last words"));
        let ended = match how.as_str() {
            "panic" => spawn("a", || panic!("of a thread that is needed")),
            "error" => spawn("a", || Err(io::Error::other("no more"))),
            "task" => {
                let builder = tokio::runtime::Builder::new_current_thread();
                spawn_with_runtime("a", builder, |runtime| {
                    let task = async { drop(tokio::spawn(async { panic!("of a task") }).await) };
                    runtime.block_on(task);
                    loop {
                        thread::park();
                    }
                })
            }
            "job" => {
                let job = thread::spawn(|| panic!("of a job's thread"));
                assert!(job.join().is_err());
                std::process::exit(7);
            }
            _ => {
                let (sender, mut words) = mpsc::unbounded_channel::<()>();
                drop(sender);
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.unwrap().block_on(heard(&mut words, "nobody"));
                Ok(())
            }
        };
        ended.unwrap();
        loop {
            thread::park();
        }
    }

    /// How a process ends in which this happens, and what it writes.
    fn end_of(how: &str) -> (std::process::ExitStatus, String) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "internals::vital::tests::child",
                "--ignored",
                "--nocapture",
            ])
            .env(HOW, how)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, said)
    }

    #[test]
    fn the_process_ends_with_a_thread_that_it_cannot_do_without_however_that_ends() {
        for how in ["panic", "error", "task", "closed"] {
            let (status, said) = end_of(how);
            let killed = Some(Signal::KILL.as_raw());
            assert_eq!(status.signal(), killed, "{how}: {said}");
            // No line of the panic itself: that would wait for whoever reads it.
            assert_eq!(said, "last words\n", "{how}");
        }
    }

    #[test]
    fn a_thread_of_a_job_may_panic() {
        let (status, said) = end_of("job");
        assert_eq!((status.code(), said.as_str()), (Some(7), ""));
    }
}
