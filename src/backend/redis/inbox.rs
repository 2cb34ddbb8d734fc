//! Where this replica hears what becomes of flights: one connection with one channel, and nothing else on it.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    super::lock::Call,
    Notice, Watches,
    connect::{Address, Task},
    error::Failure,
    keys::Names,
    message::{self, Message},
    reconnect::{End, Pace, State, heard, spread, up},
};
use crate::{key::Digest, protocol::lease::Inbox as Name};

/// A connection that is silent this long is asked whether it lives: a lost message is only noticed this way. It has as
/// long to answer, however short the time for an operation is.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After a loss, so many of those who wait are told at a time to try again, and then there is a pause.
const WAKE: (usize, Duration) = (64, Duration::from_millis(5));

/// The inbox of one replica, under supervision.
///
/// A flight, or who waits for a lock, must arm its watch *before* it asks for the [`name`](Self::name). When the
/// connection is lost, everything armed before the next name is given out is told to begin again; so whoever has taken
/// the old name is told.
#[derive(Debug)]
pub(super) struct Inbox {
    state: watch::Receiver<State<Name>>,
    patience: Duration,
    _task: Task,
}

impl Inbox {
    /// Subscribes in the background.
    pub(super) fn new(address: Address, names: Arc<Names>, watches: Watches, calls: Watches<Call>) -> Self {
        let (publish, state) = watch::channel(State::Pending);
        let patience = address.command_timeout;
        let task = Task::spawn(supervise(address, names, watches, calls, publish));
        Self { state, patience, _task: task }
    }

    /// The name under which this replica hears now: the subscription is confirmed.
    pub(super) async fn name(&self) -> Result<Name, Failure> {
        up(&self.state, self.patience).await
    }

    /// Waits for the first attempt to subscribe to end.
    pub(super) async fn settled(&self, patience: Duration) -> Result<(), Failure> {
        up(&self.state, patience).await.map(drop)
    }
}

async fn supervise(
    address: Address,
    names: Arc<Names>,
    watches: Watches,
    calls: Watches<Call>,
    publish: watch::Sender<State<Name>>,
) {
    let rumours = &address.rumours;
    let mut pace = Pace::new(rumours.clone());
    let mut moved = rumours.moved().subscribe();
    loop {
        let subscribe = || {
            // Whatever moved before leads this attempt to where it moved.
            moved.mark_unchanged();
            // A new name each time: messages to the old one may have been lost, and must not seem to arrive.
            let name = Name(rand::random());
            let subscribed = subscribe(&address, names.inbox(name));
            async move { subscribed.await.map(|(sink, stream)| (name, sink, stream)) }
        };
        let ((name, sink, stream), made) = pace.persist(&publish, subscribe).await;
        // Whoever watches now took an older name, or none yet, in which case beginning again does no harm.
        let (parked, waiting) = (watches.keys(), calls.keys());
        publish.send_replace(State::Up(name));
        let end = tokio::select! {
            () = receive(stream, &watches, &calls) => End::Closed,
            () = heard(&mut moved) => End::Closed,
            () = async {
                tokio::join!(wake(parked, &watches, &Notice::Retry), wake(waiting, &calls, &Call::Again));
                heartbeat(sink, address.command_timeout.max(HEARTBEAT)).await;
            } => End::Silent,
        };
        // The links cannot tell that they were lost until they are used.
        spread(rumours.lost());
        pace.lost(&publish, made, &address.place, end).await;
    }
}

async fn subscribe(address: &Address, channel: String) -> Result<(PubSubSink, PubSubStream), Failure> {
    let subscribe = async {
        let (mut sink, stream) = address.client.get_async_pubsub().await?.split();
        sink.subscribe(channel).await?;
        Ok((sink, stream))
    };
    match timeout(address.connect_timeout, subscribe).await {
        Ok(subscribed) => subscribed.map_err(|error| Failure::of_connecting(&address.place, error)),
        Err(_) => Err(Failure::silent(&address.place)),
    }
}

/// Passes messages on until the connection ends.
async fn receive(mut stream: PubSubStream, watches: &Watches, calls: &Watches<Call>) {
    while let Some(message) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        let Ok(bytes) = message.get_payload::<Vec<u8>>() else { continue };
        match message::parse(&Bytes::from(bytes)) {
            Some(Message::About(key, notice)) => watches.notify(key, &notice),
            Some(Message::VariantsInvalidated(primary)) => watches.notify_variants(primary, &Notice::Invalidated),
            Some(Message::Landed(record)) => {
                let key = record.key().clone();
                watches.landed(&key, &record.into_found());
            }
            Some(Message::Granted(key, grant)) => calls.notify(key, &Call::Granted(grant)),
            None => {}
        }
    }
}

/// Ends when the connection no longer answers.
async fn heartbeat(mut sink: PubSubSink, patience: Duration) {
    loop {
        sleep(HEARTBEAT).await;
        if !matches!(timeout(patience, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Has all of them try again, at a pace that the server survives.
async fn wake<N: Clone>(parked: Vec<Digest>, watches: &Watches<N>, notice: &N) {
    for some in parked.chunks(WAKE.0) {
        for key in some {
            watches.notify(*key, notice);
        }
        sleep(WAKE.1).await;
    }
}
