//! What all connections have in common: they are lost, and made again at a pace that a server survives.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{ErrorKind, breaker::Outcome, error::Failure};

/// Pauses between attempts to connect: from, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A connection that lived this long was a good one: the next is made at once.
const STEADY: Duration = Duration::from_secs(1);

/// Something that is either there, being made, or known to be away.
#[derive(Clone, Debug)]
pub(super) enum State<T> {
    /// Not tried yet, or just lost: worth waiting for.
    Pending,
    /// There.
    Up(T),
    /// The last attempt failed: not worth waiting for.
    Down(Failure),
}

/// What is there, waiting for it at most `patience`.
pub(super) async fn up<T: Clone>(state: &watch::Receiver<State<T>>, patience: Duration) -> Result<T, Failure> {
    if let State::Up(value) = &*state.borrow() {
        return Ok(value.clone());
    }
    let mut state = state.clone();
    let settled = timeout(patience, state.wait_for(|state| !matches!(state, State::Pending))).await;
    match settled.as_ref().map(|state| state.as_deref()) {
        Ok(Ok(State::Up(value))) => Ok(value.clone()),
        Ok(Ok(State::Down(failure))) => {
            // Whatever made the attempt fail, this operation was not sent. Wrong settings stay wrong settings. It cost
            // nothing, so it does not open the breaker: that would only delay who comes when the server is back.
            let kind = if failure.kind == ErrorKind::Config { ErrorKind::Config } else { ErrorKind::Unavailable };
            Err(Failure { kind, outcome: Outcome::Dropped, ..failure.clone() })
        }
        Ok(Err(_)) => Err(Failure::orphaned()),
        _ => Err(Failure::new(ErrorKind::Unavailable, "redis is not connected")),
    }
}

/// What the connections of a handle tell each other, as they lead to the same server. Each number counts events.
#[derive(Clone, Debug, Default)]
pub(super) struct Rumours(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    lost: watch::Sender<u64>,
    made: watch::Sender<u64>,
    moved: watch::Sender<u64>,
}

impl Rumours {
    /// A connection was lost that notices so by itself. What ended it most likely ended the others.
    pub(super) fn lost(&self) -> &watch::Sender<u64> {
        &self.0.lost
    }

    /// A connection was made: the server is there, and whoever pauses need not.
    pub(super) fn made(&self) -> &watch::Sender<u64> {
        &self.0.made
    }

    /// A connection was made in place of one whose server refused: what hears elsewhere hears nothing any more.
    pub(super) fn moved(&self) -> &watch::Sender<u64> {
        &self.0.moved
    }
}

/// Tells all others.
pub(super) fn spread(rumour: &watch::Sender<u64>) {
    rumour.send_modify(|count| *count += 1);
}

/// Waits until somebody tells.
pub(super) async fn heard(rumour: &mut watch::Receiver<u64>) {
    // The sender lives as long as whoever listens: both hold the same counts.
    let _ = rumour.changed().await;
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It broke, or was given up.
    Closed,
    /// The server hangs.
    Silent,
    /// The server does not take what is sent.
    Refused(Failure),
}

/// The pace at which one connection is made again: pauses are doubled each time, with jitter, so that a fleet does not
/// come back in step. It outlives the connection, because a server may accept, confirm, and then close.
#[derive(Debug)]
pub(super) struct Pace {
    next: Duration,
    rumours: Rumours,
}

impl Pace {
    pub(super) fn new(rumours: Rumours) -> Self {
        Self { next: PAUSE.0, rumours }
    }

    /// Tries until it succeeds. That somebody else succeeded ends a pause.
    pub(super) async fn persist<T, U, F>(
        &mut self,
        publish: &watch::Sender<State<U>>,
        mut attempt: impl FnMut() -> F,
    ) -> (T, Instant)
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut made = self.rumours.made().subscribe();
        loop {
            // What others achieved before this attempt does not speak for the next one.
            made.mark_unchanged();
            match attempt().await {
                Ok(connection) => {
                    spread(self.rumours.made());
                    return (connection, Instant::now());
                }
                Err(failure) => publish.send_replace(State::Down(failure)),
            };
            tokio::select! {
                () = sleep(self.pause()) => {}
                () = heard(&mut made) => {}
            }
        }
    }

    /// Says what is to be expected of a connection that was lost, and waits as long as the next attempt should.
    pub(super) async fn lost<U>(&mut self, publish: &watch::Sender<State<U>>, made: Instant, place: &str, end: End) {
        let pause = if made.elapsed() >= STEADY {
            self.next = PAUSE.0;
            Duration::ZERO
        } else {
            self.pause()
        };
        publish.send_replace(match end {
            End::Silent => State::Down(Failure::silent(place)),
            _ if pause <= PAUSE.0 => State::Pending,
            End::Refused(failure) => State::Down(failure),
            End::Closed => State::Down(Failure::short_lived(place)),
        });
        sleep(pause).await;
    }

    fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(PAUSE.1);
        pause
    }
}
