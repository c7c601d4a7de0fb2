//! The real binary: built once, run to its end or as a server.

use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::watch;

use crate::soon;
use crate::world::folder;

/// The binary `graticule`, of the profile and target folder that this test was built with. The first
/// call has cargo build it: a test of another package does not.
pub fn graticule() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(&[]))
}

/// The same with failpoints, which `FAILPOINTS` turns on. It has another name, so that nobody takes it for
/// what is shipped.
pub fn graticule_with_failpoints() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = build(&["--features", "graticule-cli/failpoints"]);
        let binary = built.with_file_name("graticule-with-failpoints");
        std::fs::rename(&built, &binary).expect("a binary that can be renamed");
        // What stood there before stands there again: it was not built anew, only put elsewhere.
        build(&[]);
        binary
    })
}

/// Has cargo build `graticule`.
fn build(arguments: &[&str]) -> PathBuf {
    // target/PROFILE/deps/TEST
    let test = std::env::current_exe().expect("a path");
    let profile_dir = test.parent().and_then(Path::parent).expect("a folder of a profile");
    let profile = match profile_dir.file_name().and_then(OsStr::to_str).expect("a profile") {
        "debug" => "dev",
        name => name,
    };
    #[expect(clippy::disallowed_methods, reason = "cargo tells its tests where it is, in no other way")]
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this test of its own package would have build scripts of others run anew, and
    // all that depends on them be compiled again, now and after the tests.
    for (name, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| told.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    let status = command
        .args(["build", "--quiet", "--bin", "graticule", "--profile", profile, "--target-dir"])
        .arg(profile_dir.parent().expect("a target folder"))
        .args(if cfg!(feature = "otlp") { &["--features", "graticule-cli/otlp"][..] } else { &[] })
        .args(arguments)
        .current_dir(folder(".."))
        .status();
    assert!(
        status.as_ref().is_ok_and(ExitStatus::success),
        "`cargo build --bin graticule` failed: {status:?}"
    );
    let binary = profile_dir.join("graticule");
    assert!(binary.is_file(), "`{}` is there after building it", binary.display());
    binary
}

/// A process that ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal that was not handled.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    id: u32,
    stdout: watch::Receiver<String>,
    stderr: watch::Receiver<String>,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts `graticule`. Nothing of this process's settings reaches it.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Process {
        let mut command = Command::new(graticule());
        command.args(arguments).env_remove("GRATICULE_DATA").env_remove("GRATICULE_LOG");
        Process::of(command)
    }

    /// Starts a command.
    pub fn of(mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let stdout = follow(child.stdout.take().expect("a pipe"));
        let stderr = follow(child.stderr.take().expect("a pipe"));
        let id = child.id();
        Process { id, stdout, stderr, status: wait(child) }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it runs, or would if it were not stopped.
    pub fn is_running(&self) -> bool {
        self.status.borrow().is_none()
    }

    /// Standard error so far.
    pub fn log(&self) -> String {
        self.stderr.borrow().clone()
    }

    /// Processor time so far, of all its threads.
    pub fn cpu_time(&self) -> Duration {
        // Fields 14 and 15 of `stat`, after the name in parentheses, in hundredths of a second.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Bytes of memory it has now; 0 once it has ended.
    pub fn memory_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") << 10
    }

    /// Most bytes of memory that it had; 0 once it has ended.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.status_kib("VmHWM:") << 10
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Sends a signal, such as `TERM`, unless the process has ended.
    pub fn signal(&self, signal: &str) {
        if self.status.borrow().is_none() {
            let sent = Command::new("kill").args([&format!("-{signal}"), &self.id.to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()) || self.status.borrow().is_some());
        }
    }

    /// Waits until standard output holds a text; all that was written by then.
    pub async fn prints(&mut self, text: &str) -> String {
        until(&mut self.stdout, text, 1).await
    }

    /// Waits until standard output holds a text; false where the process ends without.
    pub async fn prints_or_ends(&mut self, text: &str) -> bool {
        self.stdout.wait_for(|output| output.contains(text)).await.is_ok()
    }

    /// Waits until standard error holds a text; all that was written by then.
    pub async fn logs(&mut self, text: &str) -> String {
        until(&mut self.stderr, text, 1).await
    }

    /// Waits until standard error holds a text so many times.
    pub async fn logs_times(&mut self, text: &str, times: usize) -> String {
        until(&mut self.stderr, text, times).await
    }

    /// The address a server says it listens on.
    pub async fn address(&mut self) -> SocketAddr {
        let text = self.prints("\n").await;
        let (_, address) = text.split_once("://").expect("an address");
        address.split_whitespace().next().expect("an address").parse().expect("an address")
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> Ended {
        let status = soon("the end of a process", self.status.wait_for(Option::is_some)).await;
        let status = status.expect("a status").expect("a status");
        // Both pipes are read to their ends; then the readers let go.
        let rest = async |text: &mut watch::Receiver<String>| {
            while text.changed().await.is_ok() {}
            text.borrow().clone()
        };
        let stdout = soon("the end of standard output", rest(&mut self.stdout)).await;
        let stderr = soon("the end of standard error", rest(&mut self.stderr)).await;
        Ended { code: status.code(), signal: status.signal(), stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.borrow().is_none() {
            let _ = Command::new("kill").args(["-KILL", &self.id.to_string()]).status();
        }
    }
}

/// Runs `graticule` to its end.
pub async fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    Process::start(arguments).ended().await
}

async fn until(output: &mut watch::Receiver<String>, text: &str, times: usize) -> String {
    let seen = output.clone();
    let there = output.wait_for(|output| output.matches(text).count() >= times);
    match soon(&format!("`{text}`"), there).await {
        Ok(output) => output.clone(),
        Err(_) => panic!("the process ended without `{text}`: {}", seen.borrow().as_str()),
    }
}

fn follow(mut pipe: impl Read + Send + 'static) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            let text = String::from_utf8_lossy(&piece[..length]);
            sender.send_modify(|output| output.push_str(&text));
        }
    });
    receiver
}

fn wait(mut child: Child) -> watch::Receiver<Option<ExitStatus>> {
    let (sender, receiver) = watch::channel(None);
    std::thread::spawn(move || {
        let status = child.wait().expect("a child");
        sender.send_replace(Some(status));
    });
    receiver
}
