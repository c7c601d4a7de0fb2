use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::*;

/// Long enough for anything that works.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("within a minute")
}

/// Admits and runs; what is asked for is given at last.
async fn run<T: Send + 'static>(
    pool: &Pool,
    bytes: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PoolError> {
    let place = pool.admit(bytes, false).await?;
    Ok(place.run(&CancellationToken::new(), |_| 0, work).await?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_at_once_than_memory_allows() {
    let pool = Pool::new(8, 4 * UNIT_BYTES);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (pool, running, most) = (pool.clone(), running.clone(), most.clone());
            tokio::spawn(async move {
                run(&pool, 2 * UNIT_BYTES, move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    assert_eq!(pool.free_bytes(), 4 * UNIT_BYTES);
}

#[tokio::test]
async fn what_can_never_run_is_refused_and_a_panic_is_an_error() {
    let pool = Pool::new(1, 4 * UNIT_BYTES);
    assert!(matches!(pool.admit(5 * UNIT_BYTES, false).await, Err(PoolError::TooLarge { .. })));
    let panicked = run(&pool, 1, || panic!("a defect")).await;
    assert_eq!(panicked, Err::<(), _>(PoolError::Panicked { reason: "a defect".into() }));
    assert_eq!(run(&pool, 1, || 7).await, Ok(7));
    assert_eq!(pool.think(|| 8).await, Ok(8));
    assert!(matches!(pool.think(|| panic!("a defect")).await, Err::<(), _>(PoolError::Panicked { .. })));
}

#[test]
fn work_that_a_dying_process_drops_can_be_done_elsewhere() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pool = Pool::new(1, UNIT_BYTES);
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let _inside = handle.enter();
    let mut run = std::pin::pin!(run(&pool, 1, || 7));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(run.as_mut().poll(&mut context), std::task::Poll::Ready(Err(PoolError::Closed)));
}

/// A thread that waits until it is told to go on.
fn held_thread() -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
    let (go, wait) = mpsc::channel::<()>();
    // The other side may be gone, which is as good.
    (go, move || _ = wait.recv())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_that_is_alone_shares_the_pool_with_nobody() {
    let pool = Pool::new(4, 8 * UNIT_BYTES);
    let (go, work) = held_thread();
    let first = pool.admit(1, false).await.unwrap();
    let cancel = CancellationToken::new();
    let mut first = Box::pin(first.run(&cancel, |()| 0, work));
    let alone = tokio::spawn({
        let pool = pool.clone();
        async move { pool.admit(1, true).await }
    });
    // It is in line as soon as it has a slot; who comes later stands behind it.
    let in_line = async {
        while pool.slots.available_permits() > 2 {
            tokio::task::yield_now().await;
        }
    };
    soon(async {
        tokio::select! { () = in_line => {}, _ = &mut first => panic!("held") }
    })
    .await;
    assert!(!alone.is_finished());
    let _ = go.send(());
    soon(&mut first).await.unwrap();
    let alone = soon(alone).await.unwrap().unwrap();
    let mut later = std::pin::pin!(pool.admit(1, false));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(later.as_mut().poll(&mut context).is_pending());
    alone.run(&cancel, |()| 0, || ()).await.unwrap();
    soon(later).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_does_not_stop_is_written_off_until_it_comes_back() {
    let pool = Pool::new(2, 8 * UNIT_BYTES);
    let mut lost = pool.lost_slots();
    let (go, work) = held_thread();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let started = Instant::now();
    let place = pool.admit(3 * UNIT_BYTES, false).await.unwrap();
    let stuck = soon(place.run(&cancel, |()| 0, work)).await;
    assert!(matches!(stuck, Err(PoolError::Stuck)), "{stuck:?}");
    assert!(started.elapsed() >= STOPS_WITHIN);
    assert_eq!(*lost.borrow_and_update(), 1);
    // Its memory is in use; the other slot works on, alone too.
    assert_eq!(pool.free_bytes(), 5 * UNIT_BYTES);
    let alone = soon(pool.admit(1, true)).await.unwrap();
    alone.run(&CancellationToken::new(), |()| 0, || ()).await.unwrap();
    assert_eq!(pool.slots.available_permits(), 1);

    drop(go);
    soon(lost.wait_for(|lost| *lost == 0)).await.unwrap();
    let whole = async {
        while pool.slots.available_permits() < 2 || pool.free_bytes() < 8 * UNIT_BYTES {
            tokio::task::yield_now().await;
        }
    };
    soon(whole).await;
}

#[tokio::test]
async fn work_that_stops_when_it_is_asked_keeps_its_slot() {
    let pool = Pool::new(1, UNIT_BYTES);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let place = pool.admit(1, false).await.unwrap();
    let asked = cancel.clone();
    let (stopped, _) = place.run(&cancel, |_| 0, move || asked.is_cancelled()).await.unwrap();
    assert!(stopped);
    assert_eq!((*pool.lost_slots().borrow(), pool.slots.available_permits()), (0, 1));
}

#[tokio::test]
async fn results_hold_their_memory_and_never_all_of_it() {
    let pool = Pool::new(4, 8 * UNIT_BYTES);
    let cancel = CancellationToken::new();
    let mut results = Vec::new();
    for at in 0..8u64 {
        let place = pool.admit(3 * UNIT_BYTES, false).await.unwrap();
        results.push(place.run(&cancel, |()| UNIT_BYTES, || ()).await.unwrap().1);
        assert_eq!(pool.free_bytes(), (8 - (at + 1).min(4)) * UNIT_BYTES);
    }
    // A tile of half the memory is never kept waiting by readers.
    assert!(pool.admit(4 * UNIT_BYTES, false).await.is_ok());
    results.push(pool.hold(1));
    assert_eq!(pool.free_bytes(), 4 * UNIT_BYTES);
    results.clear();
    assert_eq!(pool.free_bytes(), 8 * UNIT_BYTES);
    let found = pool.hold(UNIT_BYTES + 1);
    assert_eq!(pool.free_bytes(), 6 * UNIT_BYTES);
    drop(found);
    assert_eq!(pool.free_bytes(), 8 * UNIT_BYTES);
}
