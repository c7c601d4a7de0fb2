//! What is known of a fleet, as lines of text and as JSON. Pure.

use graticule_common::proto::v1 as pb;
use serde_json::{Value, json};

/// A fleet at one moment.
#[derive(Clone, Debug)]
pub struct Sample(pb::DescribeResponse);

/// What a worker or a coordinator did a second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    tiles: f64,
    read_bytes: f64,
    /// Share of the blocks looked for that were found; none where nothing was looked for.
    hits: Option<f64>,
}

impl Sample {
    /// What a coordinator said.
    pub fn new(mut described: pb::DescribeResponse) -> Self {
        described.workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        Sample(described)
    }

    /// Whether it is of the same process, and earlier.
    pub fn precedes(&self, later: &Sample) -> bool {
        self.0.coordinator == later.0.coordinator && self.0.uptime_ms < later.0.uptime_ms
    }

    fn seconds_to(&self, later: &Sample) -> f64 {
        later.0.uptime_ms.saturating_sub(self.0.uptime_ms) as f64 / 1e3
    }

    fn worker(&self, name: &str) -> Option<&pb::WorkerState> {
        self.0.workers.iter().find(|worker| worker.worker == name)
    }
}

impl Rates {
    /// What happened between two counts; `None` where the later one counts from anew.
    fn between(before: &pb::Counts, now: &pb::Counts, seconds: f64) -> Option<Rates> {
        let tiles = now.tiles.checked_sub(before.tiles)?;
        let read = now.read_bytes.checked_sub(before.read_bytes)?;
        let hits = now.cache_hits.checked_sub(before.cache_hits)?;
        let misses = now.cache_misses.checked_sub(before.cache_misses)?;
        let looked_for = hits + misses;
        (seconds > 0.0).then(|| Rates {
            tiles: tiles as f64 / seconds,
            read_bytes: read as f64 / seconds,
            hits: (looked_for > 0).then(|| hits as f64 / looked_for as f64),
        })
    }
}

/// Widths of all columns but the first, which takes what is left.
const WORKER_COLUMNS: [usize; 6] = [7, 6, 8, 6, 12, 9];
const REQUEST_COLUMNS: [usize; 5] = [14, 8, 15, 8, 8];

/// The table, no line longer than `columns`.
pub fn lines(before: Option<&Sample>, now: &Sample, columns: usize) -> Vec<String> {
    let Sample(fleet) = now;
    let counts = fleet.counts.unwrap_or_default();
    let rates = before.and_then(|before| {
        Rates::between(&before.0.counts.unwrap_or_default(), &counts, before.seconds_to(now))
    });
    let slots: u64 = fleet.workers.iter().map(|worker| u64::from(worker.slots)).sum();
    let mut lines = vec![
        format!(
            "{}   up {}   {} workers   {slots} slots   {} requests",
            plain(&fleet.coordinator),
            span(fleet.uptime_ms),
            fleet.workers.len(),
            fleet.requests.len()
        ),
        format!(
            "{} tiles/s   {}/s read   hits {}",
            rates.map_or("-".into(), |rates| number(rates.tiles)),
            rates.map_or("-".into(), |rates| bytes(rates.read_bytes)),
            percent(rates.and_then(|rates| rates.hits)),
        ),
        format!(
            "so far {} tiles, {} requests, {} failed, {} shed, {} retries",
            counts.tiles, counts.requests, counts.failures, counts.sheds, counts.retries
        ),
        String::new(),
        row(
            "WORKER",
            &["SLOTS", "TILES", "TILES/S", "HITS", "MEMORY MiB", "STATE"],
            &WORKER_COLUMNS,
            columns,
        ),
    ];
    for worker in &fleet.workers {
        let counts = worker.counts.unwrap_or_default();
        let rates = before.and_then(|before| {
            let earlier = before.worker(&worker.worker)?.counts.unwrap_or_default();
            Rates::between(&earlier, &counts, before.seconds_to(now))
        });
        let used = worker.memory_bytes.saturating_sub(worker.free_bytes);
        let cells = [
            format!("{}/{}", worker.tiles.min(worker.slots), worker.slots),
            worker.tiles.to_string(),
            rates.map_or("-".into(), |rates| number(rates.tiles)),
            percent(rates.and_then(|rates| rates.hits)),
            format!("{}/{}", used >> 20, worker.memory_bytes >> 20),
            if worker.draining { "draining" } else { "ready" }.to_owned(),
        ];
        lines.push(row(&worker.worker, &cells, &WORKER_COLUMNS, columns));
    }
    if fleet.workers.is_empty() {
        lines.push("no worker is connected; start one with `graticule worker --coordinator URL`".into());
    }
    lines.push(String::new());
    lines.push(row("REQUEST", &["TENANT", "RUNNING", "TILES", "DONE", "AGE"], &REQUEST_COLUMNS, columns));
    for request in &fleet.requests {
        let share = (request.tiles > 0).then(|| request.done as f64 / request.tiles as f64);
        let tenant = if request.tenant.is_empty() { "-" } else { &request.tenant };
        let cells = [
            tenant.to_owned(),
            request.running.to_string(),
            format!("{}/{}", request.done, request.tiles),
            percent(share),
            span(request.age_ms),
        ];
        lines.push(row(&request.id, &cells, &REQUEST_COLUMNS, columns));
    }
    lines.iter().map(|line| cut(line.trim_end(), columns)).collect()
}

/// The same for programs.
pub fn json(before: Option<&Sample>, now: &Sample) -> Value {
    let Sample(fleet) = now;
    let counted = |counts: &pb::Counts| {
        json!({
            "tiles": counts.tiles, "tiles_from_cache": counts.tiles_from_cache,
            "cache_hits": counts.cache_hits, "cache_misses": counts.cache_misses,
            "read_bytes": counts.read_bytes, "retries": counts.retries, "sheds": counts.sheds,
            "requests": counts.requests, "failures": counts.failures,
        })
    };
    let rated = |rates: Option<Rates>| {
        rates.map(|rates| {
            json!({"tiles_per_s": rates.tiles, "read_bytes_per_s": rates.read_bytes, "hit_share": rates.hits})
        })
    };
    let counts = fleet.counts.unwrap_or_default();
    let rates = before.and_then(|before| {
        Rates::between(&before.0.counts.unwrap_or_default(), &counts, before.seconds_to(now))
    });
    let workers = fleet.workers.iter().map(|worker| {
        let counts = worker.counts.unwrap_or_default();
        let rates = before.and_then(|before| {
            let earlier = before.worker(&worker.worker)?.counts.unwrap_or_default();
            Rates::between(&earlier, &counts, before.seconds_to(now))
        });
        json!({
            "worker": worker.worker, "address": worker.address, "slots": worker.slots,
            "tiles": worker.tiles, "memory_bytes": worker.memory_bytes,
            "free_bytes": worker.free_bytes, "draining": worker.draining,
            "counts": counted(&counts), "rates": rated(rates),
        })
    });
    let requests = fleet.requests.iter().map(|request| {
        json!({
            "id": request.id, "tenant": request.tenant, "done": request.done, "tiles": request.tiles,
            "running": request.running, "age_ms": request.age_ms,
        })
    });
    json!({
        "coordinator": fleet.coordinator, "uptime_ms": fleet.uptime_ms,
        "workers": workers.collect::<Vec<_>>(), "requests": requests.collect::<Vec<_>>(),
        "counts": counted(&counts), "rates": rated(rates),
    })
}

/// One row: the first column takes what the others leave, which stand to the right.
fn row<T: AsRef<str>>(first: &str, cells: &[T], widths: &[usize], columns: usize) -> String {
    let left = columns.saturating_sub(widths.iter().sum()).max(8);
    let mut text = cut(&plain(first), left - 1);
    text += &" ".repeat(left.saturating_sub(text.chars().count()));
    for (cell, width) in cells.iter().zip(widths) {
        let cell = cut(&plain(cell.as_ref()), width - 1);
        text += &format!("{cell:>width$}");
    }
    text
}

/// At most so many characters; what is cut is marked.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Names come from elsewhere: nothing in them moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.0}%", share * 100.0))
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (value, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{} {}", number(value), units[unit])
}

/// A time in its two largest units.
fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..10 => format!("{:.1}s", milliseconds as f64 / 1e3),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(uptime_ms: u64, tiles: u64) -> Sample {
        let counts = pb::Counts {
            tiles,
            cache_hits: tiles / 2,
            cache_misses: tiles - tiles / 2,
            read_bytes: tiles << 20,
            requests: 7,
            ..pb::Counts::default()
        };
        let worker = |name: &str| pb::WorkerState {
            worker: name.into(),
            slots: 4,
            tiles: 6,
            memory_bytes: 1 << 30,
            free_bytes: 1 << 29,
            counts: Some(counts),
            ..pb::WorkerState::default()
        };
        let long = "a-worker-with-a-name-that-is-much-longer-than-any-column-can-be-4001-17";
        Sample::new(pb::DescribeResponse {
            coordinator: "127.0.0.1:4000-1".into(),
            uptime_ms,
            workers: vec![worker(long), pb::WorkerState { draining: true, ..worker("\x1b[2Jevil") }],
            requests: vec![pb::RequestState {
                id: "00f067aa0ba902b7".into(),
                tenant: "some-tenant-with-a-long-name".into(),
                done: 25,
                tiles: 100,
                running: 8,
                age_ms: 65_000,
            }],
            counts: Some(counts),
        })
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_and_nothing_moves_the_cursor() {
        for columns in [80, 81, 120, 200, 40] {
            for line in lines(Some(&sample(1000, 10)), &sample(3000, 30), columns) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
                assert!(!line.contains('\x1b'), "{line:?}");
            }
        }
    }

    #[test]
    fn rates_are_what_happened_between_two_samples() {
        let text = lines(Some(&sample(1000, 10)), &sample(3000, 30), 80).join("\n");
        assert!(text.contains("10.0 tiles/s   10.0 MiB/s read   hits 50%"), "{text}");
        let worker = text.lines().find(|line| line.starts_with("?[2Jevil")).unwrap();
        for cell in ["4/4", "10.0", "50%", "512/1024", "draining"] {
            assert!(worker.split_whitespace().any(|word| word == cell), "{cell}: {worker}");
        }
        let request = text.lines().find(|line| line.starts_with("00f067aa0ba902b7")).unwrap();
        for cell in ["25/100", "25%", "8", "1m05s"] {
            assert!(request.split_whitespace().any(|word| word == cell), "{cell}: {request}");
        }
    }

    #[test]
    fn without_an_earlier_sample_there_are_no_rates() {
        let text = lines(None, &sample(1000, 10), 80).join("\n");
        assert!(text.contains("- tiles/s") && text.contains("hits -"), "{text}");
        assert!(json(None, &sample(1000, 10))["rates"].is_null());
        let anew = sample(500, 2);
        assert!(!sample(1000, 10).precedes(&anew) && anew.precedes(&sample(1000, 10)));
        // A worker that registered anew counts from nothing.
        assert_eq!(
            Rates::between(&pb::Counts { tiles: 5, ..Default::default() }, &pb::Counts::default(), 1.0),
            None
        );
    }

    #[test]
    fn json_has_the_same_numbers() {
        let value = json(Some(&sample(1000, 10)), &sample(3000, 30));
        assert_eq!(value["rates"]["tiles_per_s"], 10.0);
        assert_eq!(value["rates"]["hit_share"], 0.5);
        assert_eq!(value["workers"][0]["slots"], 4);
        assert_eq!(value["requests"][0]["tenant"], "some-tenant-with-a-long-name");
    }

    #[test]
    fn times_are_short() {
        let spans = [
            (1500, "1.5s"),
            (59_999, "59s"),
            (3_599_000, "59m59s"),
            (7_260_000, "2h01m"),
            (90_000_000, "1d01h"),
        ];
        for (milliseconds, text) in spans {
            assert_eq!(span(milliseconds), text);
        }
    }
}
