//! Work that says before its end what it has so far.

use super::*;
use crate::{codec::Json, group::table::Table, protocol::flight::Rules};

/// Fails if somebody is not told, counts no longer once he is told, or still counts when he has left.
#[tokio::test(start_paused = true)]
async fn whoever_is_told_counts_until_he_leaves() {
    let engine: Engine<u64> = Engine::new(Arc::new(Memory::new()), Arc::new(Json));
    let key = Key::builder("test").finish();
    let so_far: Announcement = Arc::new("so far");
    let held = Arc::downgrade(&so_far);
    let first = Arc::new(std::sync::Mutex::new(Some(so_far)));
    let fly = || {
        let first = Arc::clone(&first);
        let work: Work<u64> = Box::new(move |start| {
            Box::pin(async move {
                (start.announce)(first.lock().unwrap().take());
                sleep(Duration::from_secs(1)).await;
                Done::Passing(7)
            })
        });
        let (engine, key) = (engine.clone(), key.clone());
        tokio::spawn(async move { engine.fly(key, work, &Options::default()).await })
    };
    let (answer, own) = fly().await.unwrap();
    assert!(matches!(answer, Answer::Runs(None)));
    let mut seats = vec![own];
    for _ in 0..2 {
        let (answer, seat) = fly().await.unwrap();
        let Answer::Announced(so_far) = answer else { panic!("the work is open to everybody") };
        assert_eq!(so_far.downcast_ref(), Some(&"so far"));
        seats.push(seat);
    }
    let detached = || engine.table.detached.used();
    for seat in seats {
        settle().await;
        assert_eq!(detached(), 0);
        drop(seat);
    }
    settle().await;
    assert_eq!(detached(), 1);
    // One more, who still has a seat when nothing more is to be had.
    let (_, late) = fly().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(held.upgrade().is_none() && engine.table.len() == 0);
    drop(late);
}

/// Fails if work that was given up, and has not heard of it yet, speaks for the work that runs.
#[test]
fn only_the_work_that_runs_is_heard() {
    let rules = Rules { lease: MS, budget: MS, detached: MS };
    let table = Table::<u64>::default();
    let work: Work<u64> = Box::new(|_| Box::pin(pending()));
    let Ok((seat, _)) = table.join(Key::builder("test").finish(), work, rules, &Options::default()) else { panic!() };
    seat.cell.announce(7)(Some(Arc::new("given up")));
    assert!(seat.cell.seats().announced.is_none());
}
