//! What is recorded of a body while it comes, for any number of readers.
//!
//! The recorder appends and never waits: a reader that is slow, or never comes, holds nobody up. Each reader has a place of
//! its own, counted in bytes, so that the pieces may become one behind its back.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::SizeHint;

use super::body::at_least;
use crate::group::Held;

/// A whole body, with its trailers.
pub(super) type Whole = (Bytes, Option<HeaderMap>);

/// The recording.
#[derive(Debug)]
pub(super) struct Tape(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Each piece, and at which byte it ends.
    pieces: Vec<(u64, Bytes)>,
    trailers: Option<HeaderMap>,
    /// What the body says of what is still to come.
    rest: SizeHint,
    end: Option<End>,
    /// The readers that wait, by their numbers.
    waiting: BTreeMap<usize, Waker>,
    readers: usize,
    /// What it holds, for as long as anybody can read it.
    room: Held,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the body.
    Complete,
    /// Before it.
    Cut,
}

/// What a reader comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The body is complete.
    End,
    /// The recording ends here, and the body does not.
    Cut,
}

impl Tape {
    pub(super) fn new(rest: SizeHint, room: Held) -> Self {
        let (pieces, waiting) = (Vec::new(), BTreeMap::new());
        Self(Mutex::new(State { pieces, trailers: None, rest, end: None, waiting, readers: 0, room }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a piece that is not empty; `rest` is what is still to come. `false` if there was no room for it: it is
    /// recorded even so, as it has been read.
    pub(super) fn push(&self, piece: Bytes, rest: SizeHint, most: usize) -> bool {
        self.change(|state| {
            let fits = state.room.grow(piece.len(), most);
            let end = state.length() + piece.len() as u64;
            state.pieces.push((end, piece));
            state.rest = rest;
            fits
        })
    }

    pub(super) fn push_trailers(&self, trailers: HeaderMap) {
        self.change(|state| state.trailers = Some(trailers));
    }

    /// The recording ends before the body; `rest` is what is still to come from elsewhere.
    pub(super) fn cut(&self, rest: SizeHint) {
        self.change(|state| {
            state.rest = rest;
            state.end = Some(End::Cut);
        });
    }

    /// The recording is the whole body: in one piece, which the readers share. A body that came in one is not copied.
    pub(super) fn complete(&self) -> Whole {
        let (mut pieces, length) = {
            let state = self.state();
            (state.pieces.iter().map(|(_, piece)| piece.clone()).collect::<Vec<_>>(), state.length())
        };
        // Not under the lock: it may be much, and nobody but the recorder adds to it.
        let whole = if pieces.len() <= 1 {
            pieces.pop().unwrap_or_default()
        } else {
            let mut whole = BytesMut::with_capacity(length as usize);
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        };
        let (_pieces, trailers) = self.change(|state| {
            state.rest = SizeHint::with_exact(0);
            state.end = Some(End::Complete);
            (mem::replace(&mut state.pieces, vec![(length, whole.clone())]), state.trailers.clone())
        });
        (whole, trailers)
    }

    /// What this returns is dropped after the lock.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        result
    }
}

impl State {
    fn length(&self) -> u64 {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }
}

/// One who reads along, from the beginning.
#[derive(Debug)]
pub(super) struct Reader {
    tape: Arc<Tape>,
    number: usize,
    /// How many bytes it has.
    at: u64,
    has_trailers: bool,
}

impl Reader {
    pub(super) fn new(tape: &Arc<Tape>) -> Self {
        let mut state = tape.state();
        state.readers += 1;
        Self { tape: Arc::clone(tape), number: state.readers, at: 0, has_trailers: false }
    }

    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Next> {
        let mut state = self.tape.state();
        let next = state.pieces.partition_point(|(end, _)| *end <= self.at);
        if let Some((end, piece)) = state.pieces.get(next) {
            let piece = piece.slice(piece.len() - (*end - self.at) as usize..);
            self.at = *end;
            return Poll::Ready(Next::Data(piece));
        }
        if let Some(trailers) = state.trailers.clone().filter(|_| !self.has_trailers) {
            self.has_trailers = true;
            return Poll::Ready(Next::Trailers(trailers));
        }
        match state.end {
            Some(End::Complete) => Poll::Ready(Next::End),
            Some(End::Cut) => Poll::Ready(Next::Cut),
            None => {
                let before = state.waiting.insert(self.number, cx.waker().clone());
                // It may be the last of a task, which may hold a reader too.
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }

    /// Whether the recording ended before the body.
    pub(super) fn is_cut(&self) -> bool {
        self.tape.state().end == Some(End::Cut)
    }

    /// Whether there is nothing more, which is known only of a body that is complete.
    pub(super) fn is_at_end(&self) -> bool {
        let state = self.tape.state();
        let trailers = state.trailers.is_some() && !self.has_trailers;
        state.end == Some(End::Complete) && state.length() == self.at && !trailers
    }

    /// What is still to be read, and to come. A body that broke off has no exact length: a server would announce it, send
    /// what there is, and make the fragment look complete.
    pub(super) fn size_hint(&self) -> SizeHint {
        let state = self.tape.state();
        let ahead = state.length() - self.at;
        let mut hint = at_least(state.rest.lower().saturating_add(ahead));
        // With an exact length a server would announce it, and HTTP/1 has trailers behind chunks alone.
        let trailers = state.trailers.is_some() && !self.has_trailers;
        if let Some(upper) = state.rest.upper().filter(|_| !trailers) {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // After the lock, as above.
        let _waker = self.tape.state().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;
    use crate::group::Tally;

    fn room() -> Held {
        Arc::new(Tally::default()).hold()
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(reader: &mut Reader) -> Poll<Next> {
        reader.poll_next(&Context::from_waker(Waker::noop()))
    }

    fn data(data: &'static str) -> Poll<Next> {
        Poll::Ready(Next::Data(Bytes::from_static(data.as_bytes())))
    }

    fn tape(pieces: &[&'static str]) -> Arc<Tape> {
        let tape = Arc::new(Tape::new(SizeHint::new(), room()));
        for piece in pieces {
            assert!(tape.push(Bytes::from_static(piece.as_bytes()), SizeHint::new(), usize::MAX));
        }
        tape
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])
    }

    /// Fails if a place is counted in pieces, which become one when the body is complete.
    #[test]
    fn every_reader_reads_everything_wherever_the_others_are() {
        let tape = tape(&["ab", "c"]);
        let mut readers = [Reader::new(&tape), Reader::new(&tape), Reader::new(&tape)];
        assert_eq!(poll(&mut readers[0]), data("ab"));
        assert_eq!((poll(&mut readers[1]), poll(&mut readers[1])), (data("ab"), data("c")));
        assert_eq!(poll(&mut readers[1]), Poll::Pending);
        assert!(tape.push(Bytes::from_static(b"def"), SizeHint::new(), usize::MAX));
        tape.push_trailers(trailers());
        assert_eq!(tape.complete(), (Bytes::from_static(b"abcdef"), Some(trailers())));
        for (reader, left) in readers.iter_mut().zip(["cdef", "def", "abcdef"]) {
            assert_eq!(reader.size_hint().lower(), left.len() as u64);
            assert_eq!(reader.size_hint().exact(), None, "the trailers leave it open");
            assert_eq!(poll(reader), data(left));
            assert!(!reader.is_at_end());
            assert_eq!(poll(reader), Poll::Ready(Next::Trailers(trailers())));
            assert!(reader.is_at_end());
            assert_eq!(reader.size_hint().exact(), Some(0));
            assert_eq!(poll(reader), Poll::Ready(Next::End));
        }
    }

    /// Fails if a reader that is polled twice is woken twice, or one that has left at all.
    #[test]
    fn who_waits_is_woken_once() {
        let tape = tape(&[]);
        let bells = [(); 2].map(|()| Arc::new(Bell::default()));
        let wakers = bells.clone().map(Waker::from);
        let mut readers = [Reader::new(&tape), Reader::new(&tape)];
        for (reader, waker) in readers.iter_mut().zip(&wakers) {
            for _ in 0..2 {
                assert_eq!(reader.poll_next(&Context::from_waker(waker)), Poll::Pending);
            }
        }
        let [_reads, left] = readers;
        drop(left);
        assert!(tape.push(Bytes::from_static(b"a"), SizeHint::new(), usize::MAX));
        tape.cut(SizeHint::new());
        assert_eq!(bells.map(|bell| bell.0.load(Ordering::Relaxed)), [1, 0]);
    }

    /// Fails if what the body says of the rest counts what was read already, or if a fragment looks complete.
    #[test]
    fn lengths_are_what_is_unread_and_what_is_to_come() {
        let tape = Arc::new(Tape::new(SizeHint::with_exact(6), room()));
        let mut reader = Reader::new(&tape);
        assert_eq!(reader.size_hint().exact(), Some(6));
        assert!(tape.push(Bytes::from_static(b"ab"), SizeHint::with_exact(4), usize::MAX));
        assert_eq!(reader.size_hint().exact(), Some(6));
        assert_eq!(poll(&mut reader), data("ab"));
        assert_eq!(reader.size_hint().exact(), Some(4));
        tape.cut(SizeHint::new());
        assert_eq!((reader.size_hint().lower(), reader.size_hint().exact()), (0, None));
        assert!(!reader.is_at_end() && reader.is_cut());
        assert_eq!(poll(&mut reader), Poll::Ready(Next::Cut));
    }

    #[test]
    fn what_came_in_one_piece_is_not_copied() {
        let piece = Bytes::from(vec![7; 64]);
        let tape = tape(&[]);
        assert!(tape.push(piece.clone(), SizeHint::new(), usize::MAX));
        assert_eq!(tape.complete().0.as_ptr(), piece.as_ptr());
    }
}
