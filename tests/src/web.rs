//! A web server for the files of one folder: ranges, ETags, connections that stay.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server; it ends with this.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl Web {
    /// Serves a folder.
    pub async fn serve(folder: &Path) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (folder, requests) = (folder.to_owned(), Arc::new(AtomicU64::new(0)));
        let counted = requests.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, folder.clone(), counted.clone()));
            }
        });
        Web { address, requests, listening }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests it got.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Answers one request after the other until the connection ends.
async fn converse(stream: TcpStream, folder: PathBuf, requests: Arc<AtomicU64>) {
    let mut stream = BufReader::new(stream);
    while let Some((path, range, if_match)) = request(&mut stream).await {
        requests.fetch_add(1, Ordering::Relaxed);
        let file = std::fs::read(folder.join(path.trim_start_matches('/'))).ok();
        let answer = match file {
            None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Some(file) => answer(&file, range, if_match.as_deref()),
        };
        if stream.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(file: &[u8], range: Option<(usize, usize)>, if_match: Option<&str>) -> Vec<u8> {
    let sum = file.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let tag = format!("\"{sum:016x}\"");
    if if_match.is_some_and(|wanted| wanted != tag) {
        return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".to_vec();
    }
    let length = file.len();
    let (head, body) = match range {
        None => (format!("HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {length}\r\n\r\n"), file),
        Some((from, _)) if from >= length => (
            format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{length}\r\nContent-Length: 0\r\n\r\n"
            ),
            &[][..],
        ),
        Some((from, to)) => {
            let body = &file[from..=to.min(length - 1)];
            let to = from + body.len() - 1;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nETag: {tag}\r\nContent-Range: bytes {from}-{to}/{length}\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            (head, body)
        }
    };
    [head.as_bytes(), body].concat()
}

/// Path, first and last byte, and the contents that are wanted.
async fn request(
    stream: &mut BufReader<TcpStream>,
) -> Option<(String, Option<(usize, usize)>, Option<String>)> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let path = line.split_whitespace().nth(1)?.to_owned();
    let (mut range, mut if_match) = (None, None);
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
                range = Some((from.parse().ok()?, to.parse().unwrap_or(usize::MAX - 1)));
            }
            "if-match" => if_match = Some(value.to_owned()),
            _ => {}
        }
    }
    Some((path, range, if_match))
}
