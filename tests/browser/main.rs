//! The map page in Chromium, over the real binary. What is asserted is in `page/*.test.js`, which Node runs;
//! here are the servers that the pages come from. `deploy/browser.sh` installs what this needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use graticule_tests::process::{Process, graticule, run};

use graticule_tests::world::folder;
use tempfile::TempDir;

/// A server over a data folder of its own.
struct Server {
    process: Process,
    url: String,
    data: PathBuf,
    _folder: TempDir,
}

/// Starts `graticule serve` over the sample imagery, or over nothing.
async fn serve(has_imagery: bool, more: &[&str]) -> Server {
    let folder_of_data = TempDir::new().expect("a folder");
    let data = folder_of_data.path().join("data");
    let with_data = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned());
        ["--data".to_owned(), data.display().to_string()].into_iter().chain(words).collect::<Vec<_>>()
    };
    if has_imagery {
        let examples = folder("../examples");
        let add =
            [examples.join("potsdam"), examples.join("colorado")].map(|path| path.display().to_string());
        let added = run(with_data(&["catalog", "add", &add[0], &add[1]])).await;
        assert_eq!(added.code, Some(0), "{}", added.stderr);
    }
    let listen = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--catalog-poll", "1"];
    let mut process = Process::start(with_data(&[&listen[..], more].concat()));
    let printed = process.prints("map on http://").await;
    let address = printed.split("map on http://").nth(1).and_then(|rest| rest.split('/').next());
    let address: SocketAddr = address.expect("an address").parse().expect("an address");
    Server { process, url: format!("http://{address}/"), data, _folder: folder_of_data }
}

/// One browser at a time: each takes a processor or two.
static BROWSER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs a file of tests in a browser; its report is what this test says where one fails.
async fn browse(file: &str, settings: &[(&str, &str)]) {
    let browser = folder("browser");
    assert!(
        browser.join("node_modules").is_dir(),
        "what drives the browser is not installed; run deploy/browser.sh"
    );
    let _alone = BROWSER.lock().await;
    let mut command = Command::new("node");
    command.args(["--test", "--test-concurrency=1"]).arg(browser.join("page").join(file));
    command.env("GRATICULE_BINARY", graticule()).envs(settings.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A whole session of a browser takes longer than anything else that tests wait for.
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task");
    let output = output.expect("node runs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    // No test found is no test passed.
    assert!(report.contains("pass ") && !report.contains("pass 0\n"), "{report}");
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs browser"]
async fn browser_shows_edits_and_downloads_the_examples() {
    let server = serve(true, &[]).await;
    browse("examples.test.js", &[("GRATICULE_URL", &server.url), ("GRATICULE_CATALOG", &text(&server.data))])
        .await;
    assert!(server.process.is_running());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs browser"]
async fn browser_finds_the_page_usable_narrow_dark_and_by_keyboard() {
    let server = serve(true, &[]).await;
    browse("looks.test.js", &[("GRATICULE_URL", &server.url)]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs browser"]
async fn browser_is_told_how_to_begin_with_an_empty_catalog() {
    let server = serve(false, &[]).await;
    let data = text(&server.data);
    browse("empty.test.js", &[("GRATICULE_EMPTY_URL", &server.url), ("GRATICULE_EMPTY_CATALOG", &data)])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs browser"]
async fn browser_is_asked_for_a_key() {
    let keys = TempDir::new().expect("a folder");
    let secret = keys.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef".repeat(4)).expect("a file");
    let (keys, secret) = (text(&keys.path().join("keys")), text(&secret));
    let access = ["--keys", &keys, "--auth-secret-file", &secret];
    let made = run([&["key", "create", "--tenant", "page"], &access[..]].concat()).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let server = serve(true, &[&["--require-auth"], &access[..]].concat()).await;
    let key = made.stdout.trim().to_owned();
    browse("locked.test.js", &[("GRATICULE_LOCKED_URL", &server.url), ("GRATICULE_KEY", &key)]).await;
}
