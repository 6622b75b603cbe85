//! The commands that people type, run to their end or followed line by line; and `etcdctl`, which
//! some of them are compared to.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::cluster::Cluster;
use super::daemon::{PREFIX, program};
use super::example::example;
use super::programs;
use super::sandbox::Sandbox;
use super::security::Tls;
use super::wait::{eventually, secs};

/// A command line of the built binary, or of `etcdctl`.
pub struct Typed {
    command: Command,
    input: Vec<u8>,
}

/// How it ended.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub errors: String,
}

/// A command that goes on; killed on drop.
pub struct Followed {
    child: Child,
    output: Collected,
    errors: Collected,
}

/// Whether a program is there that a test can do without; says what is left out where it isn't.
pub fn is_there(program: &str, what: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        skipped(&format!("{what}: {program} is missing"));
    }
    is_there
}

/// Says what a test leaves out, past the test harness, which hides what a test that passes prints.
pub fn skipped(what: &str) {
    let notice = format!("SKIPPED: {what}\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
}

/// Takes our own variables from a command, so that only the test's words count.
pub fn without_our_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("INCUMBENT_"));
        if ours || name == "RUNTIME_DIRECTORY" {
            command.env_remove(&name);
        }
    }
}

impl Sandbox {
    /// `incumbent …` without a store.
    pub fn incumbent<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Typed {
        Typed::new(program().as_os_str(), arguments, self)
    }

    /// An example of this package, with arguments.
    pub fn example<S: AsRef<OsStr>>(&self, name: &str, arguments: &[S]) -> Typed {
        Typed::new(example(name).as_os_str(), arguments, self)
    }
}

impl Cluster {
    /// `incumbent …` for this cluster and the election of the tests.
    pub fn incumbent<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Typed {
        let typed = self
            .sandbox()
            .incumbent(arguments)
            .env("INCUMBENT__ETCD__ENDPOINTS", self.endpoints().join(","))
            .env("INCUMBENT__ELECTION__PREFIX", PREFIX);
        let tls = self.tls().map(Tls::settings).unwrap_or_default();
        tls.iter().fold(typed, |typed, (key, file)| {
            let name = format!("INCUMBENT__ETCD__TLS__{}", key.to_uppercase());
            typed.env(&name, file)
        })
    }

    /// `etcdctl …` for this cluster.
    pub fn etcdctl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Typed {
        let typed = Typed::new(&programs::etcdctl(), arguments, self.sandbox())
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoints().join(","));
        let tls = self.tls().into_iter().flat_map(Tls::variables);
        tls.fold(typed, |typed, (name, file)| typed.env(name, file))
    }

    /// `etcdctl …` for this cluster, to be started beside a test; `name` is for the sandbox. Its
    /// standard output is left to the caller.
    pub fn etcdctl_beside<S: AsRef<OsStr>>(&self, name: &str, arguments: &[S]) -> Command {
        let mut command = Command::new(programs::etcdctl());
        command
            .args(arguments)
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoints().join(","))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        self.sandbox().mark(&mut command, name);
        command
    }
}

impl Typed {
    fn new<S: AsRef<OsStr>>(binary: &OsStr, arguments: &[S], sandbox: &Sandbox) -> Self {
        let mut command = Command::new(binary);
        command.args(arguments);
        without_our_variables(&mut command);
        sandbox.mark(&mut command, "command");
        Self {
            command,
            input: Vec::new(),
        }
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without a variable of the environment.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// With this as standard input.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// The command itself, for who needs more of it than its answer.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Answer {
        self.start().wait()
    }

    /// Runs it to its end, which must be a good one; returns standard output.
    #[track_caller]
    pub fn output(self) -> Vec<u8> {
        let shown = format!("{:?}", self.command);
        let answer = self.run();
        assert_eq!(answer.code, Some(0), "{shown}: {}", answer.errors);
        answer.output
    }

    /// As [`output`](Self::output), as text.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.output()).unwrap()
    }

    /// Starts it, and lets it run beside the test.
    pub fn start(mut self) -> Running {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", self.command));
        // One that doesn't read its input may be gone by now.
        child.stdin.take().unwrap().write_all(&self.input).ok();
        Running(child)
    }

    /// Starts it, and collects its lines as they come.
    pub fn follow(mut self) -> Followed {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", self.command));
        let output = Collected::from(child.stdout.take().unwrap());
        let errors = Collected::from(child.stderr.take().unwrap());
        Followed {
            child,
            output,
            errors,
        }
    }
}

/// A command that runs beside the test.
pub struct Running(Child);

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Waits for its end.
    pub fn wait(self) -> Answer {
        let Output {
            status,
            stdout,
            stderr,
        } = self.0.wait_with_output().unwrap();
        Answer {
            code: status.code(),
            output: stdout,
            errors: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Closes our end of its standard output.
    pub fn stop_reading(&mut self) {
        self.0.stdout.take();
    }
}

impl Answer {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

impl Followed {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; returns its exit code, or `None` if a signal ended it.
    #[track_caller]
    pub fn wait_exit(&mut self) -> Option<i32> {
        let status = eventually(secs(20), "the command ends", || {
            self.child.try_wait().unwrap()
        });
        status.code()
    }

    /// The same with all that was said, by it and by whoever has inherited its output.
    #[track_caller]
    pub fn wait_answer(&mut self) -> Answer {
        let code = self.wait_exit();
        eventually(secs(20), "its output ends", || {
            self.output.has_ended() && self.errors.has_ended()
        });
        Answer {
            code,
            output: self.lines().join("\n").into_bytes(),
            errors: self.errors().join("\n"),
        }
    }

    /// All lines of standard output so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines()
    }

    /// All lines of standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lines()
    }

    /// Waits until there are `n` lines on standard output, and returns all there are.
    #[track_caller]
    pub fn wait_lines(&self, n: usize) -> Vec<String> {
        eventually(secs(20), &format!("{n} lines are printed"), || {
            let lines = self.lines();
            if lines.len() >= n {
                Ok(lines)
            } else {
                Err((lines, self.errors()))
            }
        })
    }

    /// As [`wait_lines`](Self::wait_lines), each read as JSON.
    #[track_caller]
    pub fn wait_json(&self, n: usize) -> Vec<serde_json::Value> {
        let lines = self.wait_lines(n);
        let read = |line: &String| serde_json::from_str(line).unwrap();
        lines.iter().map(read).collect()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            for line in self.errors() {
                eprintln!("   {line}");
            }
        }
    }
}

/// The lines of a stream, as they come.
struct Collected {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn from(stream: impl std::io::Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line);
            }
        });
        Self {
            lines: collected,
            reader,
        }
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    /// Whether nobody can write to it any more, and all of it is among the lines.
    fn has_ended(&self) -> bool {
        self.reader.is_finished()
    }
}
