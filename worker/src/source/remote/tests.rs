//! Remote files against a small server in the test: of a good file the pixels are those of the local
//! one, of everything else there is an error.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

/// What a server does with its `n`th request for a range, counted from 0.
type Script = dyn Fn(usize, &Asked) -> Answer + Send + Sync;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) if_match: Option<String>,
}

/// An answer, or what is wrong with it.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The part that was asked for.
    Good,
    /// The part, under another tag than before.
    Tagged(&'static str),
    Status(u16),
    Redirect(String),
    /// Half of the bytes that the head declares, then the end.
    Cut,
    /// One byte less than was asked for, honestly declared.
    Less,
    /// More bytes than was asked for, honestly declared.
    More,
    /// Another length of the whole file than before.
    Grown,
    /// The whole file with status 200.
    Whole,
    /// Nothing at all until the client gives up.
    Silence,
}

/// A server of one file, on a thread of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(
        file: Vec<u8>,
        script: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (counted, file, script): (_, _, Arc<Script>) =
            (requests.clone(), Arc::new(file), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, file, script) = (counted.clone(), file.clone(), script.clone());
                thread::spawn(move || serve(stream, &file, &counted, script.as_ref()));
            }
        });
        Server { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/scene/B04.tif?sig=secret", self.address)
    }

    /// Opens what this server serves, and gives up soon.
    pub(crate) fn remote(&self) -> Remote {
        let access = Access::to_hosts(&[self.address.to_string()]).unwrap();
        let patience = Patience {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            attempt: Duration::from_millis(500),
            total: Duration::from_secs(5),
        };
        Remote::new(access, patience)
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, file: &[u8], counted: &AtomicUsize, script: &Script) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(asked) = request(&mut reader) {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let answer = script(number, &asked);
        if answer_to(&mut stream, &asked, answer, file).is_none() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut asked = Asked { path, range: None, if_match: None };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(asked) };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1));
            }
            "if-match" => asked.if_match = Some(value.to_owned()),
            _ => {}
        }
    }
}

fn answer_to(stream: &mut TcpStream, asked: &Asked, answer: Answer, file: &[u8]) -> Option<()> {
    let (start, end) = asked.range.unwrap_or((0, file.len()));
    let (start, end) = (start.min(file.len()), end.min(file.len()));
    let tag = match answer {
        Answer::Tagged(tag) => tag,
        _ => "\"one\"",
    };
    let mut send = |head: String, body: &[u8]| {
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    let mut part = |start: usize, end: usize, length: usize, sent: usize| {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{length}\r\n\
             Content-Length: {}\r\nETag: {tag}\r\n\r\n",
            end - 1,
            end - start,
        );
        send(head, &file[start..start + sent])
    };
    match answer {
        Answer::Good | Answer::Tagged(_) => {
            if asked.if_match.as_deref().is_some_and(|wanted| wanted != tag) {
                return send("HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".into(), b"");
            }
            part(start, end, file.len(), end - start)
        }
        Answer::Status(status) => send(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"), b""),
        Answer::Redirect(to) => {
            send(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"), b"")
        }
        Answer::Cut => {
            part(start, end, file.len(), (end - start) / 2)?;
            None
        }
        Answer::Less => part(start, end - 1, file.len(), end - 1 - start),
        Answer::More => part(start, end + 1, file.len(), end + 1 - start),
        Answer::Grown => part(start, end, file.len() + 1, end - start),
        Answer::Whole => {
            send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: {tag}\r\n\r\n", file.len()), file)
        }
        Answer::Silence => {
            thread::park_timeout(Duration::from_secs(2));
            None
        }
    }
}

/// 100 KB of which each byte tells its place.
fn numbered() -> Vec<u8> {
    (0..100_000u32).map(|i| (i % 251) as u8).collect()
}

fn open(server: &Server, version: &str) -> Result<RemoteFile, ReadProblem> {
    server.remote().open(&SourceRef::Http(server.url()), version)
}

/// Reads the whole file but its first block, which is read when it is opened.
fn rest(remote: &Remote, server: &Server) -> Result<Vec<u8>, ReadProblem> {
    let file = remote.open(&SourceRef::Http(server.url()), "")?;
    let mut bytes = vec![0xaa; 60_000];
    match file.read_at(40_000, &mut bytes) {
        Some(read) => {
            assert_eq!(read, 60_000);
            Ok(bytes)
        }
        None => Err(file.fault().expect("a reason")),
    }
}

#[test]
fn parts_are_the_files_and_are_remembered() {
    let server = Server::start(numbered(), |_, _| Answer::Good);
    let remote = server.remote();
    let file = remote.open(&SourceRef::Http(server.url()), "\"one\"").unwrap();
    assert_eq!((file.length(), file.version()), (100_000, "\"one\""));
    let mut bytes = vec![0; 70_000];
    assert_eq!(file.read_at(20_000, &mut bytes), Some(70_000));
    assert_eq!(bytes, numbered()[20_000..90_000]);
    // One request for the head, one for all that was missing.
    assert_eq!(server.count(), 2);
    assert_eq!(file.read_at(99_990, &mut bytes), Some(10));
    assert_eq!(bytes[..10], numbered()[99_990..]);
    assert_eq!(file.read_at(32_767, &mut bytes[..2]), Some(2));
    assert_eq!(server.count(), 3);
    assert_eq!(file.read_at(100_000, &mut bytes), Some(0));
    assert_eq!(file.fault(), None);
}

#[test]
fn failures_that_pass_are_waited_for() {
    let bad = [Answer::Status(503), Answer::Cut, Answer::Status(429), Answer::Silence];
    for bad in bad {
        let shown = format!("{bad:?}");
        let server =
            Server::start(numbered(), move |n, _| if n % 3 < 2 { bad.clone() } else { Answer::Good });
        assert_eq!(rest(&server.remote(), &server).as_deref(), Ok(&numbered()[40_000..]), "{shown}");
        assert_eq!(server.count(), 6, "{shown}");
    }
}

#[test]
fn failures_that_stay_are_errors_and_never_zeros() {
    for (bad, attempts) in [(Answer::Status(503), 3), (Answer::Cut, 3)] {
        let shown = format!("{bad:?}");
        let server = Server::start(numbered(), move |n, _| if n == 0 { Answer::Good } else { bad.clone() });
        let problem = rest(&server.remote(), &server).unwrap_err();
        assert!(matches!(problem, ReadProblem::Unreachable { .. }), "{shown}: {problem}");
        assert_eq!(server.count(), 1 + attempts, "{shown}");
    }
    for bad in [Answer::Less, Answer::More, Answer::Whole, Answer::Status(400), Answer::Status(204)] {
        let shown = format!("{bad:?}");
        let server = Server::start(numbered(), move |n, asked| match (n, &bad) {
            (0, _) => Answer::Good,
            // There is nothing behind the end to send.
            (_, Answer::More) if asked.range.is_some_and(|(_, end)| end >= 100_000) => Answer::Less,
            _ => bad.clone(),
        });
        let problem = rest(&server.remote(), &server).unwrap_err();
        assert!(matches!(problem, ReadProblem::WrongAnswer { .. }), "{shown}: {problem}");
    }
    let server = Server::start(numbered(), |_, _| Answer::Status(404));
    assert!(matches!(open(&server, ""), Err(ReadProblem::Missing { .. })));
    assert_eq!(server.count(), 1);
}

#[test]
fn other_contents_are_noticed() {
    for bad in [Answer::Tagged("\"two\""), Answer::Grown, Answer::Status(412)] {
        let shown = format!("{bad:?}");
        let server = Server::start(numbered(), move |n, _| if n == 0 { Answer::Good } else { bad.clone() });
        let problem = rest(&server.remote(), &server).unwrap_err();
        assert!(matches!(problem, ReadProblem::Changed { .. }), "{shown}: {problem}");
    }
    let server = Server::start(numbered(), |_, _| Answer::Good);
    assert!(matches!(open(&server, "\"zero\""), Err(ReadProblem::Changed { .. })));
}

#[test]
fn only_hosts_that_are_allowed() {
    let server = Server::start(numbered(), |_, _| Answer::Good);
    let closed = Remote::new(Access::default(), server.remote().patience);
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let url = SourceRef::Http(format!("http://{host}:{port}/a.tif"));
        let problem = closed.open(&url, "").unwrap_err();
        assert!(matches!(problem, ReadProblem::HostNotAllowed { .. }), "{host}: {problem}");
        assert!(problem.to_string().contains("--allow-host"), "{problem}");
    }
    assert_eq!(server.count(), 0);
    let elsewhere = Server::start(numbered(), |_, _| Answer::Good);
    let to = format!("http://{}/secret", elsewhere.address);
    let server = Server::start(numbered(), move |_, _| Answer::Redirect(to.clone()));
    assert!(matches!(open(&server, ""), Err(ReadProblem::HostNotAllowed { .. })));
    assert_eq!(elsewhere.count(), 0);
    // At the same host they are followed, and not for ever.
    let moved =
        |asked: &Asked| if asked.path == "/new" { Answer::Good } else { Answer::Redirect("/new".into()) };
    let server = Server::start(numbered(), move |_, asked| moved(asked));
    assert_eq!(open(&server, "").unwrap().length(), 100_000);
    let server = Server::start(numbered(), |_, _| Answer::Redirect("/again".into()));
    assert!(matches!(open(&server, ""), Err(ReadProblem::WrongAnswer { .. })));
    assert_eq!(server.count(), 4);
}
