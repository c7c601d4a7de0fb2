//! A TCP proxy that does to connections what networks do: delay, throttle, stall, cut, swallow, reset,
//! corrupt, half open. Every fault can be switched while connections last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes that are moved at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Pieces of one direction that are under way, as a network holds them.
const PIECES_UNDER_WAY: usize = 64;

/// Who sent what a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who was connected to.
    Server,
}

/// What happens to bytes on their way. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// How long they take.
    pub delay: Duration,
    /// How much longer they take at most; they stay in order.
    pub jitter: Duration,
    /// Bytes a second at most.
    pub rate: Option<u64>,
    /// Whether none arrive until this changes: what packets that are dropped come to, as long as both ends
    /// send them again.
    pub is_held: bool,
    /// One bit is flipped in each so many bytes.
    pub corrupt_every: Option<u64>,
    /// Chance of a piece to be late, and by how much: what a lost packet comes to.
    pub stalls: Option<(f64, Duration)>,
}

impl Weather {
    /// Nothing arrives.
    pub const HELD: Weather = Weather {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        rate: None,
        is_held: true,
        corrupt_every: None,
        stalls: None,
    };

    /// Everything takes longer.
    pub fn slow(delay_ms: u64, jitter_ms: u64) -> Weather {
        Weather {
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::from_millis(jitter_ms),
            ..Weather::default()
        }
    }

    /// So many bits a second.
    pub fn narrow(bits_per_s: u64) -> Weather {
        Weather { rate: Some(bits_per_s / 8), ..Weather::default() }
    }
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both ends are closed.
    Cut,
    /// Both ends are reset.
    Reset,
    /// The server's end is reset, the client's stays open and silent.
    HalfOpen,
    /// What this one sends ends orderly; the other direction goes on.
    HalfClosed(Side),
}

/// How one direction ends before its sender ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It does not.
    No,
    /// Its receiver sees the end.
    Orderly,
    /// Its receiver sees nothing yet.
    Silently,
}

/// The proxy; connections end with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: watch::Sender<Option<SocketAddr>>,
    from_client: watch::Sender<Weather>,
    from_server: watch::Sender<Weather>,
    /// Whether connections are taken.
    is_open: watch::Sender<bool>,
    connections: Mutex<BTreeMap<u64, mpsc::UnboundedSender<End>>>,
    accepted: AtomicU64,
    moved: [AtomicU64; 2],
    random: Mutex<fastrand::Rng>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// A proxy whose connections wait until it is told where they go.
    pub async fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: watch::Sender::new(None),
            from_client: watch::Sender::new(Weather::default()),
            from_server: watch::Sender::new(Weather::default()),
            is_open: watch::Sender::new(true),
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            moved: [AtomicU64::new(0), AtomicU64::new(0)],
            random: Mutex::new(fastrand::Rng::with_seed(7)),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Proxy { address, shared, listening }
    }

    /// A proxy before a server.
    pub async fn before(server: SocketAddr) -> Proxy {
        let proxy = Proxy::start().await;
        proxy.leads_to(server);
        proxy
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to connect, as a URL of this scheme.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Where connections go from now on.
    pub fn leads_to(&self, server: SocketAddr) {
        self.shared.target.send_replace(Some(server));
    }

    /// What happens from now on to what one side sends.
    pub fn set(&self, from: Side, weather: Weather) {
        self.shared.weather(from).send_replace(weather);
    }

    /// What happens from now on to what both sides send.
    pub fn set_both(&self, weather: Weather) {
        self.set(Side::Client, weather);
        self.set(Side::Server, weather);
    }

    /// Whether new connections are taken; else they end at once.
    pub fn open(&self, is_open: bool) {
        self.shared.is_open.send_replace(is_open);
    }

    /// Everything is as it should be from now on.
    pub fn heal(&self) {
        self.set_both(Weather::default());
        self.open(true);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.end(End::Cut);
    }

    /// Resets all connections.
    pub fn reset(&self) {
        self.end(End::Reset);
    }

    /// Resets the servers' ends of all connections; clients hear nothing any more.
    pub fn half_open(&self) {
        self.end(End::HalfOpen);
    }

    /// Ends what one side sends; the other direction goes on.
    pub fn half_close(&self, from: Side) {
        self.end(End::HalfClosed(from));
    }

    fn end(&self, end: End) {
        // Who has ended meanwhile does not listen.
        lock(&self.shared.connections).values().for_each(|connection| _ = connection.send(end));
    }

    /// Connections there are.
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Connections there were.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Bytes that arrived of what one side sent.
    pub fn moved(&self, from: Side) -> u64 {
        self.shared.moved[from as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.end(End::Cut);
    }
}

impl Shared {
    fn weather(&self, from: Side) -> &watch::Sender<Weather> {
        match from {
            Side::Client => &self.from_client,
            Side::Server => &self.from_server,
        }
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if !*shared.is_open.borrow() {
            reset(client);
            continue;
        }
        let id = shared.accepted.fetch_add(1, Ordering::Relaxed);
        let (sender, ends) = mpsc::unbounded_channel();
        lock(&shared.connections).insert(id, sender);
        let shared = shared.clone();
        tokio::spawn(async move {
            connection(client, &shared, ends).await;
            lock(&shared.connections).remove(&id);
        });
    }
}

/// Lets a connection go with a reset instead of an end.
fn reset(stream: TcpStream) {
    // Fails where the other side has ended it; then there is nothing to reset.
    let _ = stream.set_zero_linger();
}

async fn connection(client: TcpStream, shared: &Arc<Shared>, mut ends: mpsc::UnboundedReceiver<End>) {
    let mut target = shared.target.subscribe();
    let connecting = async {
        let target = *target.wait_for(Option::is_some).await.ok()?;
        // A network that drops everything drops the first packet too.
        let mut weather = shared.from_client.subscribe();
        weather.wait_for(|weather| !weather.is_held).await.ok()?;
        TcpStream::connect(target?).await.ok()
    };
    let server = tokio::select! {
        server = connecting => server,
        _ = ends.recv() => None,
    };
    // Who refuses connections resets them.
    let Some(server) = server else { return reset(client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let (stop_up, stopped_up) = watch::channel(Stop::No);
    let (stop_down, stopped_down) = watch::channel(Stop::No);
    let mut up = tokio::spawn(direction(client_in, server_out, shared.clone(), Side::Client, stopped_up));
    let mut down = tokio::spawn(direction(server_in, client_out, shared.clone(), Side::Server, stopped_down));
    let (mut up_done, mut down_done) = (None, None);
    loop {
        tokio::select! {
            halves = &mut up, if up_done.is_none() => up_done = Some(halves),
            halves = &mut down, if down_done.is_none() => down_done = Some(halves),
            end = ends.recv() => {
                match end {
                    Some(End::HalfClosed(Side::Client)) => {
                        stop_up.send_replace(Stop::Orderly);
                        continue;
                    }
                    Some(End::HalfClosed(Side::Server)) => {
                        stop_down.send_replace(Stop::Orderly);
                        continue;
                    }
                    _ => {}
                }
                let is_silent = matches!(end, Some(End::Reset | End::HalfOpen));
                let stop = if is_silent { Stop::Silently } else { Stop::Orderly };
                stop_up.send_replace(stop);
                stop_down.send_replace(stop);
                let up = match up_done { Some(halves) => halves, None => up.await };
                let down = match down_done { Some(halves) => halves, None => down.await };
                let (Ok((client_in, server_out)), Ok((server_in, client_out))) = (up, down) else { return };
                let client = client_in.reunite(client_out).expect("halves of one");
                let server = server_in.reunite(server_out).expect("halves of one");
                match end {
                    Some(End::Reset) => {
                        reset(client);
                        reset(server);
                    }
                    Some(End::HalfOpen) => {
                        reset(server);
                        swallow(client, &mut ends).await;
                    }
                    _ => {}
                }
                return;
            }
        }
        if up_done.is_some() && down_done.is_some() {
            return;
        }
    }
}

/// Takes what a client sends and says nothing, until the client or the test ends it.
async fn swallow(mut client: TcpStream, ends: &mut mpsc::UnboundedReceiver<End>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        tokio::select! {
            read = client.read(&mut piece) => if matches!(read, Ok(0) | Err(_)) { return },
            _ = ends.recv() => return,
        }
    }
}

/// Moves bytes one way until they end or `stopped`.
async fn direction(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    side: Side,
    stopped: watch::Receiver<Stop>,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let (sender, receiver) = mpsc::channel(PIECES_UNDER_WAY);
    let mut stop = stopped.clone();
    let reading = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            tokio::select! {
                read = from.read_buf(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { break },
                _ = stop.wait_for(|stop| *stop != Stop::No) => break,
            }
            let piece = buffer.split();
            let weather = *shared.weather(side).borrow();
            let due = Instant::now() + weather.delay + more(&shared, weather);
            tokio::select! {
                sent = sender.send((due, piece)) => if sent.is_err() { break },
                _ = stop.wait_for(|stop| *stop != Stop::No) => break,
            }
        }
        drop(sender);
    };
    let mut stop = stopped.clone();
    let writing = async {
        tokio::select! {
            () = write(&mut to, receiver, &shared, side) => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => {}
        }
        if *stop.borrow() != Stop::Silently {
            // Fails where the connection has ended.
            let _ = to.shutdown().await;
        }
    };
    tokio::join!(reading, writing);
    (from, to)
}

/// What one piece takes longer than the others.
fn more(shared: &Shared, weather: Weather) -> Duration {
    let mut random = lock(&shared.random);
    let stall = weather.stalls.filter(|(chance, _)| random.f64() < *chance).map(|(_, stall)| stall);
    weather.jitter.mul_f64(random.f64()) + stall.unwrap_or_default()
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut pieces: mpsc::Receiver<(Instant, BytesMut)>,
    shared: &Shared,
    side: Side,
) {
    let mut weather = shared.weather(side).subscribe();
    let mut since_flip = 0;
    while let Some((due, mut piece)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        while !piece.is_empty() {
            let Ok(now) = weather.wait_for(|weather| !weather.is_held).await.map(|weather| *weather) else {
                return;
            };
            // A tenth of a second's bytes at a time, so that a rate is one for small amounts as well.
            let most = now.rate.map_or(piece.len(), |rate| (rate / 10).max(1) as usize);
            let mut part = piece.split_to(most.min(piece.len()));
            if let Some(every) = now.corrupt_every {
                for byte in part.iter_mut() {
                    since_flip += 1;
                    if since_flip >= every {
                        since_flip = 0;
                        *byte ^= 1 << lock(&shared.random).u8(0..8);
                    }
                }
            }
            if to.write_all(&part).await.is_err() {
                return;
            }
            shared.moved[side as usize].fetch_add(part.len() as u64, Ordering::Relaxed);
            if let Some(rate) = now.rate {
                tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate.max(1) as f64)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soon;

    /// A server that sends back what it gets, byte by byte as it comes.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn there_and_back(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        soon("an echo", stream.read_exact(&mut back)).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn passes_everything_on_and_waits_for_its_target() {
        let proxy = Proxy::start().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"early").await.unwrap();
        proxy.leads_to(echo().await);
        let mut back = [0; 5];
        soon("an echo", stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"early");
        let large: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        assert!(there_and_back(&mut stream, &large).await.unwrap() == large);
        assert_eq!((proxy.moved(Side::Client), proxy.moved(Side::Server)), (100_005, 100_005));
        assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    }

    #[tokio::test]
    async fn delays_and_rates_take_their_time() {
        let proxy = Proxy::before(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set_both(Weather::slow(60, 0));
        let start = Instant::now();
        there_and_back(&mut stream, b"x").await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
        proxy.heal();
        proxy.set(Side::Server, Weather::narrow(8 * 100_000));
        let start = Instant::now();
        there_and_back(&mut stream, &[7; 30_000]).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(180), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn what_is_held_arrives_later_and_one_way_is_one_way() {
        let proxy = Proxy::before(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        there_and_back(&mut stream, b"x").await.unwrap();
        proxy.set(Side::Server, Weather::HELD);
        stream.write_all(b"abc").await.unwrap();
        soon("three bytes at the server", async {
            while proxy.moved(Side::Client) < 4 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut back = [0; 3];
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut back)).await.is_err());
        proxy.heal();
        soon("an echo", stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"abc");
    }

    #[tokio::test]
    async fn connections_end_in_every_way() {
        let proxy = Proxy::before(echo().await).await;
        let connected = async || {
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            there_and_back(&mut stream, b"x").await.unwrap();
            stream
        };
        let mut stream = connected().await;
        proxy.cut();
        assert_eq!(soon("an end", stream.read(&mut [0; 8])).await.unwrap(), 0);

        let mut stream = connected().await;
        proxy.reset();
        let error = soon("a reset", stream.read(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

        let mut stream = connected().await;
        proxy.half_close(Side::Server);
        assert_eq!(soon("an end", stream.read(&mut [0; 8])).await.unwrap(), 0);
        stream.write_all(b"still taken").await.unwrap();

        let mut stream = connected().await;
        proxy.half_open();
        stream.write_all(b"into the void").await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 8])).await;
        assert!(silence.is_err(), "{silence:?}");

        proxy.open(false);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let refused = soon("a refusal", stream.read(&mut [0; 8])).await;
        assert!(refused.is_err(), "{refused:?}");
    }

    #[tokio::test]
    async fn corruption_flips_as_many_bits_as_it_says() {
        let proxy = Proxy::before(echo().await).await;
        proxy.set(Side::Client, Weather { corrupt_every: Some(1000), ..Weather::default() });
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let back = there_and_back(&mut stream, &[0; 10_000]).await.unwrap();
        assert_eq!(back.iter().map(|byte| byte.count_ones()).sum::<u32>(), 10);
    }
}
