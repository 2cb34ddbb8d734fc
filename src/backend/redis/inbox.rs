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
    Notice, Watches,
    connect::{Address, Backoff, State, Task, up},
    error::Failure,
    keys::Names,
    message::{self, About},
};
use crate::{key::Digest, protocol::lease::Inbox as Name};

/// A connection that is silent this long is asked whether it lives: a lost message is only noticed this way.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After a loss, so many parked flights at a time begin again, and then there is a pause.
const WAKE: (usize, Duration) = (64, Duration::from_millis(5));

/// The inbox of one replica, under supervision.
///
/// A flight must arm its watch *before* it asks for the [`name`](Self::name). When the connection is lost, everything
/// armed before the next name is given out is told to begin again; so whoever has taken the old name is told.
#[derive(Debug)]
pub(super) struct Inbox {
    state: watch::Receiver<State<Name>>,
    patience: Duration,
    _task: Task,
}

impl Inbox {
    /// Subscribes in the background. `lost` is called whenever the connection has gone.
    pub(super) fn new(
        address: Address,
        names: Arc<Names>,
        watches: Watches,
        lost: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (publish, state) = watch::channel(State::Pending);
        let patience = address.command_timeout;
        let task = Task::spawn(supervise(address, names, watches, publish, lost));
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
    publish: watch::Sender<State<Name>>,
    lost: impl Fn(),
) {
    loop {
        let mut backoff = Backoff::new();
        let (name, sink, stream) = loop {
            // A new name each time: messages to the old one may have been lost, and must not seem to arrive.
            let name = Name(rand::random());
            match subscribe(&address, names.inbox(name)).await {
                Ok((sink, stream)) => break (name, sink, stream),
                Err(failure) => publish.send_replace(State::Down(failure)),
            };
            backoff.pause().await;
        };
        // Whoever watches now took an older name, or none yet, in which case beginning again does no harm.
        let parked = watches.keys();
        publish.send_replace(State::Up(name));
        tokio::select! {
            () = receive(stream, &watches) => {}
            () = async {
                wake(parked, &watches).await;
                heartbeat(sink, address.command_timeout).await;
            } => {}
        }
        publish.send_replace(State::Pending);
        lost();
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
        Err(_) => Err(address.too_slow()),
    }
}

/// Passes messages on until the connection ends.
async fn receive(mut stream: PubSubStream, watches: &Watches) {
    while let Some(message) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        let Ok(bytes) = message.get_payload::<Vec<u8>>() else { continue };
        match message::parse(&Bytes::from(bytes)) {
            Some((About::Key(key), notice)) => watches.notify(key, &notice),
            Some((About::VariantsOf(primary), notice)) => watches.notify_variants(primary, &notice),
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

/// Has all of them begin again, at a pace that the server survives.
async fn wake(parked: Vec<Digest>, watches: &Watches) {
    for some in parked.chunks(WAKE.0) {
        for key in some {
            watches.notify(*key, &Notice::Retry);
        }
        sleep(WAKE.1).await;
    }
}
