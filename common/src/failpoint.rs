//! Named places at which a test has a process fail. Without the feature `failpoints`, which no shipped
//! build has, [`failpoint!`](crate::failpoint) is nothing at all.
//!
//! What happens where is said by the environment variable `FAILPOINTS` when the process starts, in the
//! notation of the crate `fail`: `worker.mid_read=2*off->1*return(crash)` ends the process without a word at the
//! third reading. What can be returned: `crash`, `error`, `hang` (for ever) and `delay:MILLISECONDS`.
//! Each that takes effect is written to standard error first, as "failpoint `NAME`: WHAT", so that a test
//! knows that it did.

use std::time::Duration;

/// A failure that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failpoint `{0}`: an error was asked for")]
pub struct Injected(pub &'static str);

/// What is to happen at a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    Error,
    Hang,
    Delay(Duration),
}

fn parse(text: &str) -> Option<Fault> {
    match text {
        "crash" => Some(Fault::Crash),
        "error" => Some(Fault::Error),
        "hang" => Some(Fault::Hang),
        text => {
            let millis = text.strip_prefix("delay:")?.parse().ok()?;
            Some(Fault::Delay(Duration::from_millis(millis)))
        }
    }
}

/// Reads `FAILPOINTS`. Call it once, before there are other threads.
///
/// # Panics
/// When the text is not in the notation.
pub fn start() {
    // The scenario ends with the process.
    std::mem::forget(fail::FailScenario::setup());
}

/// What is to happen at `name` now, after writing it down.
fn fault(name: &'static str) -> Option<Fault> {
    let text = fail::eval(name, |text| text)??;
    // Standard error may be closed, which changes nothing.
    let _ =
        std::io::Write::write_all(&mut std::io::stderr(), format!("failpoint `{name}`: {text}\n").as_bytes());
    match parse(&text)? {
        Fault::Crash => std::process::abort(),
        fault => Some(fault),
    }
}

/// A failpoint of a thread that may block.
///
/// # Errors
/// [`Injected`] where an error is to happen.
pub fn here(name: &'static str) -> Result<(), Injected> {
    match fault(name) {
        Some(Fault::Error) => Err(Injected(name)),
        Some(Fault::Delay(time)) => {
            #[expect(clippy::disallowed_methods, reason = "the fault is a delay")]
            std::thread::sleep(time);
            Ok(())
        }
        Some(Fault::Hang) => loop {
            std::thread::park();
        },
        Some(Fault::Crash) | None => Ok(()),
    }
}

/// A failpoint of a task. One that hangs can be dropped.
///
/// # Errors
/// [`Injected`] where an error is to happen.
pub async fn reached(name: &'static str) -> Result<(), Injected> {
    match fault(name) {
        Some(Fault::Error) => Err(Injected(name)),
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Crash) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_anything_else_is_none() {
        assert_eq!(parse("crash"), Some(Fault::Crash));
        assert_eq!(parse("delay:250"), Some(Fault::Delay(Duration::from_millis(250))));
        for text in ["", "delay", "delay:", "delay:-1", "CRASH"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// One test: what `fail` is told holds for the whole process.
    #[tokio::test]
    async fn what_is_asked_for_happens_when_it_is_asked_for() {
        async fn path() -> &'static str {
            crate::failpoint!("test.first");
            crate::failpoint!("test.second", return "failed");
            "went through"
        }
        fn blocking() -> &'static str {
            crate::failpoint!(blocking "test.third", return "failed");
            "went through"
        }
        assert_eq!((path().await, blocking()), ("went through", "went through"));
        fail::cfg("test.second", "1*off->1*return(error)").expect("a notation");
        assert_eq!([path().await, path().await, path().await], ["went through", "failed", "went through"]);
        fail::cfg("test.third", "return(error)").expect("a notation");
        assert_eq!(blocking(), "failed");
        fail::cfg("test.first", "return(hang)").expect("a notation");
        let hanging = tokio::time::timeout(Duration::from_millis(20), path()).await;
        assert!(hanging.is_err());
    }
}
