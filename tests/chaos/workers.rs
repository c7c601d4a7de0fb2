//! Workers that die, stop and come back.

use std::time::{Duration, Instant};

use graticule_tests::cases;
use graticule_tests::colorado::Imagery;
use graticule_tests::fleet::{Fleet, Setup};

use crate::turn;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    let t = Instant::now();
    for case in cases::all().await {
        eprintln!("{} ref {:?}", case.name, t.elapsed());
        let t = Instant::now();
        let s = fleet.computes(&case.anew()).await;
        eprintln!("{:?} {} wall {:?}", t.elapsed(), s.tiles, s.wall_ms);
    }
    let case = cases::ndvi().await;
    fleet.workers[0].signal("KILL");
    fleet.computes(&case.anew()).await;
    let _ = Duration::ZERO;
}
