//! The published client, unmodified, drives a real server. The programs are `tests/client/*.py`; they run in
//! processes of their own, with the client that `deploy/client.sh` installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use graticule_tests::colorado::examples;
use graticule_tests::process::{Process, run};
use graticule_tests::world::folder;
use tempfile::TempDir;

/// A server of a catalog.
struct Server {
    process: Process,
    url: String,
}

impl Server {
    /// Starts one over a data folder, with further arguments.
    async fn start(data: &Path, more: &[&str]) -> Server {
        let mut arguments = vec!["--data".into(), data.display().to_string(), "serve".into()];
        arguments.extend(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"].map(str::to_owned));
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let mut process = Process::start(arguments);
        let said = process.prints("map on ").await;
        let (_, rest) = said.split_once("map on ").expect("an address");
        let url = rest.split_whitespace().next().expect("an address").trim_end_matches('/').to_owned();
        Server { process, url }
    }

    /// Ends it as a person would.
    async fn stop(self) {
        self.process.signal("TERM");
        let ended = self.process.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

/// A data folder with imagery registered.
async fn data_with(imagery: &[PathBuf]) -> TempDir {
    let data = tempfile::tempdir().expect("a folder");
    let mut arguments = vec!["--data".into(), data.path().display().to_string()];
    arguments.extend(["catalog", "add"].map(str::to_owned));
    arguments.extend(imagery.iter().map(|path| path.display().to_string()));
    let ended = run(arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    data
}

async fn data() -> TempDir {
    data_with(&["potsdam", "colorado"].map(|name| examples().join(name))).await
}

/// `deploy/client.sh`, which has installed the client by then.
fn client() -> Command {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let command = || {
        let mut command = Command::new(folder("../deploy/client.sh"));
        command.stdin(Stdio::null());
        command
    };
    INSTALLED.get_or_init(|| {
        let imported = command().args(["-c", "import descarteslabs.dynamic_compute, rasterio"]).output();
        check("the published client cannot be installed", &imported.expect("a shell"));
    });
    command()
}

#[track_caller]
fn check(what: &str, output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// Runs tests of the client against a server, with variables of the environment.
async fn drive(server: &Server, names: &[&str], variables: &[(&str, String)]) {
    let (url, names) = (server.url.clone(), names.iter().map(|name| (*name).to_owned()));
    let names: Vec<_> = names.collect();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let running = move || {
        let mut command = client();
        command.arg("tests/client/run.py").arg(url).args(&names).envs(variables);
        (names, command.output().expect("a shell"))
    };
    let (names, output) = tokio::task::spawn_blocking(running).await.expect("it ends");
    check(&names.join(", "), &output);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python client"]
async fn published_client_programs() {
    let data = data().await;
    let server = Server::start(data.path(), &[]).await;
    drive(&server, &["test_programs", "test_forms", "test_errors"], &[]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python client"]
async fn published_client_tiles() {
    let data = data().await;
    let server = Server::start(data.path(), &[]).await;
    drive(&server, &["test_tiles"], &[]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python client"]
async fn published_client_notebooks() {
    let data = data().await;
    let server = Server::start(data.path(), &[]).await;
    drive(&server, &["notebooks"], &[]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python client"]
async fn published_client_blobs() {
    let data = data().await;
    let note = ("RESTART_NOTE", data.path().join("note").display().to_string());
    let server = Server::start(data.path(), &[]).await;
    drive(&server, &["test_blobs"], &[]).await;
    drive(&server, &["test_restart"], &[note.clone(), ("BEFORE_RESTART", "1".to_owned())]).await;
    server.stop().await;
    // Another process on another port.
    let server = Server::start(data.path(), &[]).await;
    drive(&server, &["test_restart"], &[note]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python client"]
async fn published_client_access() {
    let data = data().await;
    let keys = data.path().join("keys.jsonl").display().to_string();
    let folder = data.path().display().to_string();
    let key = async |tenant: &str, scopes: &str| {
        let arguments = ["--data", &folder, "key", "create", "--keys", &keys, "--jwt", "--name", "notebooks"];
        let ended = run(arguments.into_iter().chain(["--tenant", tenant, "--scope", scopes])).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout.trim().to_owned()
    };
    let variables = [
        ("TOKEN_OF_A", key("a", "compute,catalog:read").await),
        ("TOKEN_OF_B", key("b", "compute,catalog:read").await),
        ("TOKEN_OF_READER", key("a", "catalog:read").await),
    ];
    let server = Server::start(data.path(), &["--require-auth", "--keys", &keys]).await;
    drive(&server, &["test_access"], &variables).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs shared"]
async fn client_over_shared() {
    let shared = folder("../../shared").canonicalize().expect("`../shared`");
    let data = data_with(&[shared.join("data")]).await;
    let server = Server::start(data.path(), &[]).await;
    let variables = [("GRATICULE_SHARED", shared.display().to_string())];
    drive(&server, &["test_captured", "test_shared"], &variables).await;
    server.stop().await;
}
