//! Clients by the hundred: closed loops that ask as fast as they are answered, and open ones that ask at a rate
//! whatever happens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::status::class_of;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::cases::Case;
use crate::fleet::receive;
use crate::process::Process;

/// Connections that clients share: a browser's tiles come over one, too.
const CONNECTIONS: usize = 16;

/// Requests of an open loop that may be under way: without a bound a generator that falls behind would measure
/// itself.
const UNDER_WAY_MAX: usize = 4096;

/// The largest message: headers list scenes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Who asks what, where.
#[derive(Clone, Debug)]
pub struct Load {
    /// The questions, in turn.
    pub cases: Arc<Vec<Case>>,
    clients: Arc<Vec<ComputeServiceClient<Channel>>>,
}

impl Load {
    /// Clients of these coordinators.
    pub fn on(endpoints: &[String], cases: Vec<Case>) -> Load {
        let client = |at: usize| {
            let endpoint =
                Endpoint::from_shared(endpoints[at % endpoints.len()].clone()).expect("an address");
            let channel = endpoint.tcp_nodelay(true).connect_lazy();
            ComputeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
        };
        Load { cases: Arc::new(cases), clients: Arc::new((0..CONNECTIONS).map(client).collect()) }
    }

    /// One request, and one more where an error says that it may help and `again`.
    async fn ask(&self, number: usize, again: bool, tally: &Mutex<Tally>) {
        let case = &self.cases[number % self.cases.len()];
        let asked = Instant::now();
        let mut end = self.once(number, case).await;
        let mut retried = false;
        if again && matches!(end, End::Failed { may_retry: true, .. }) {
            retried = true;
            end = self.once(number + 1, case).await;
        }
        tally.lock().await.add(&end, asked.elapsed(), retried);
    }

    async fn once(&self, number: usize, case: &Case) -> End {
        let mut client = self.clients[number % self.clients.len()].clone();
        let whole = async {
            let mut stream = client.compute(case.request.clone()).await?.into_inner();
            receive(&mut stream).await
        };
        match whole.await {
            Ok(received) => {
                if case.is_answered_by(received) {
                    End::Right
                } else {
                    End::Wrong
                }
            }
            Err(status) => {
                let class = class_of(&status).name();
                let is_transport = matches!(
                    status.code(),
                    tonic::Code::Unknown | tonic::Code::Unavailable | tonic::Code::Cancelled
                );
                End::Failed { class, may_retry: is_transport || class == "overloaded" }
            }
        }
    }

    /// So many clients, each of which asks as soon as it is answered.
    pub async fn closed(&self, clients: usize, lasting: Duration, again: bool) -> Tally {
        let (stop, stopped) = watch::channel(false);
        let ends = async {
            tokio::time::sleep(lasting).await;
            stop.send_replace(true);
        };
        tokio::join!(self.closed_until(clients, stopped, again), ends).0
    }

    /// The same until it is told to stop.
    pub async fn closed_until(&self, clients: usize, stopped: watch::Receiver<bool>, again: bool) -> Tally {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let started = Instant::now();
        let mut running = JoinSet::new();
        for client in 0..clients {
            let (load, tally, stopped) = (self.clone(), tally.clone(), stopped.clone());
            running.spawn(async move {
                let mut number = client;
                while !*stopped.borrow() {
                    load.ask(number, again, &tally).await;
                    number += clients;
                }
            });
        }
        running.join_all().await;
        finish(tally, started).await
    }

    /// So many clients at once, each of which asks once.
    pub async fn once_each(&self, clients: usize) -> Tally {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let started = Instant::now();
        let mut running = JoinSet::new();
        for client in 0..clients {
            let (load, tally) = (self.clone(), tally.clone());
            running.spawn(async move { load.ask(client, false, &tally).await });
        }
        running.join_all().await;
        finish(tally, started).await
    }

    /// So many requests a second, whether they are answered or not.
    pub async fn open(&self, per_second: f64, lasting: Duration) -> Tally {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        let started = Instant::now();
        let mut running = JoinSet::new();
        let mut number = 0;
        loop {
            let due = started + Duration::from_secs_f64(number as f64 / per_second);
            if due.duration_since(started) >= lasting {
                break;
            }
            tokio::time::sleep_until(due).await;
            let Ok(permit) = room.clone().try_acquire_owned() else {
                tally.lock().await.unsent += 1;
                number += 1;
                continue;
            };
            let (load, tally) = (self.clone(), tally.clone());
            running.spawn(async move {
                load.ask(number, false, &tally).await;
                drop(permit);
            });
            number += 1;
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
        finish(tally, started).await
    }
}

async fn finish(tally: Arc<Mutex<Tally>>, started: Instant) -> Tally {
    let mut tally = tally.lock().await.clone();
    tally.lasted = started.elapsed();
    tally
}

enum End {
    Right,
    Wrong,
    Failed { class: &'static str, may_retry: bool },
}

/// How requests ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Time of all.
    pub lasted: Duration,
    /// How long right answers took, in the order of their ends.
    pub right: Vec<Duration>,
    /// Answers with other pixels.
    pub wrong: u64,
    /// How long errors took, by class.
    pub failed: BTreeMap<&'static str, Vec<Duration>>,
    /// Requests that were sent twice.
    pub retried: u64,
    /// Requests that the generator did not send, having too many under way.
    pub unsent: u64,
}

impl Tally {
    fn add(&mut self, end: &End, took: Duration, retried: bool) {
        self.retried += u64::from(retried);
        match end {
            End::Right => self.right.push(took),
            End::Wrong => self.wrong += 1,
            End::Failed { class, .. } => self.failed.entry(class).or_default().push(took),
        }
    }

    /// Right answers a second.
    pub fn goodput(&self) -> f64 {
        self.right.len() as f64 / self.lasted.as_secs_f64()
    }

    /// Errors of all classes but this one.
    pub fn failures_but(&self, class: &str) -> usize {
        self.failed.iter().filter(|(name, _)| **name != class).map(|(_, all)| all.len()).sum()
    }
}

/// The time that this part of them took at most.
pub fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{:>7} right {:>8.1}/s  p50 {:>7.1} ms  p99 {:>8.1} ms  {} wrong",
            self.right.len(),
            self.goodput(),
            ms(quantile(&self.right, 0.5)),
            ms(quantile(&self.right, 0.99)),
            self.wrong,
        )?;
        for (class, times) in &self.failed {
            let (half, most) = (ms(quantile(times, 0.5)), ms(quantile(times, 0.99)));
            write!(f, "  {} {class} (p50 {half:.1} ms, p99 {most:.1} ms)", times.len())?;
        }
        if self.retried > 0 {
            write!(f, "  {} retried", self.retried)?;
        }
        if self.unsent > 0 {
            write!(f, "  {} not sent", self.unsent)?;
        }
        Ok(())
    }
}

/// What processes took: processor seconds since a first look, and memory.
#[derive(Debug, Default)]
pub struct Usage {
    processes: Vec<(String, u32, Duration)>,
    /// That of this process, which asks.
    own: Duration,
}

impl Usage {
    /// The first look.
    pub fn of<'a>(processes: impl IntoIterator<Item = (String, &'a Process)>) -> Usage {
        let look = |(name, process): (String, &Process)| (name, process.id(), process.cpu_time());
        Usage { processes: processes.into_iter().map(look).collect(), own: own_cpu_time() }
    }

    /// The second look, as a line a process.
    pub fn table<'a>(&self, processes: impl IntoIterator<Item = (String, &'a Process)>) -> String {
        let mut lines = Vec::new();
        for (name, process) in processes {
            let before = self
                .processes
                .iter()
                .find(|(_, id, _)| *id == process.id())
                .map_or(Duration::ZERO, |(_, _, time)| *time);
            lines.push(format!(
                "    {name:<14} {:>7.2} s CPU  {:>6.1} MiB now  {:>6.1} MiB at most",
                process.cpu_time().saturating_sub(before).as_secs_f64(),
                process.memory_bytes() as f64 / (1 << 20) as f64,
                process.memory_peak_bytes() as f64 / (1 << 20) as f64,
            ));
        }
        let own = own_cpu_time().saturating_sub(self.own);
        lines.push(format!("    {:<14} {:>7.2} s CPU", "the clients", own.as_secs_f64()));
        lines.join("\n")
    }
}

fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&times[..1], 0.99), Duration::from_millis(100));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
