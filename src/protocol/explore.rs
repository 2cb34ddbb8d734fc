//! Visits every world of a model that can be reached, once.

use core::{fmt::Debug, hash::Hash};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hasher},
};

/// More worlds than any configuration has: past it, something goes round for ever.
const ENOUGH: usize = 3_000_000;

/// A model: a world, and what may happen in it.
pub trait Model: Clone + Hash {
    /// A configuration.
    type Setup;
    /// One step.
    type Action: Copy + Debug;
    /// Something worth reaching.
    type Event: Copy + Ord + Debug;
    /// The promise that everything has an end.
    const END: &'static str;

    /// Everything that may happen next.
    fn actions(&self, setup: &Self::Setup) -> Vec<Self::Action>;

    /// Does it, and compares what comes of it with the book.
    fn step(&mut self, setup: &Self::Setup, trail: &mut Trail<Self::Event>, action: Self::Action)
    -> Result<(), Broken>;

    /// What must hold where `next` is all that may happen next.
    fn rests(&self, setup: &Self::Setup, next: &[Self::Action]) -> Result<(), Broken>;
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub promise: &'static str,
    pub how: &'static str,
}

impl Broken {
    pub fn new(promise: &'static str, how: &'static str) -> Self {
        Self { promise, how }
    }

    pub fn unless(kept: bool, promise: &'static str, how: &'static str) -> Result<(), Self> {
        if kept { Ok(()) } else { Err(Self::new(promise, how)) }
    }
}

/// Everything that was reached.
#[derive(Clone, Debug)]
pub struct Trail<E>(BTreeSet<E>);

impl<E: Ord> Trail<E> {
    pub fn saw(&mut self, event: E) {
        self.0.insert(event);
    }
}

/// What is in the air, in an order that does not depend on how it got there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Air<T>(pub Vec<T>);

impl<T: Hash> Air<T> {
    pub fn push(&mut self, item: T) {
        let order = fingerprint(&item);
        let at = self.0.partition_point(|other| fingerprint(other) < order);
        self.0.insert(at, item);
    }
}

fn fingerprint(item: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish()
}

/// What an exploration found.
pub struct Report<M: Model> {
    worlds: usize,
    steps: usize,
    trail: Trail<M::Event>,
    /// The first broken promise, and the shortest way there.
    broken: Option<(Broken, Vec<M::Action>)>,
}

impl<M: Model> Report<M> {
    /// Fails unless every promise is kept, and each of these was reached: none is kept for want of an occasion to break it.
    pub fn keeps_all(&self, name: &str, events: &[M::Event]) {
        println!("{name}: {} worlds, {} steps, {:?}", self.worlds, self.steps, self.trail.0);
        if let Some((broken, way)) = &self.broken {
            let way: String = way.iter().map(|step| format!("  {step:?}\n")).collect();
            panic!("{name}: {broken:?} after\n{way}");
        }
        assert!(self.worlds > 10_000, "{name} is empty");
        for event in events {
            assert!(self.trail.0.contains(event), "{event:?} was never reached");
        }
    }

    /// Fails unless this promise was broken.
    pub fn breaks(&self, promise: &str) {
        let (broken, way) = self.broken.as_ref().expect("the mistake is found");
        println!("{broken:?} after {} of {} worlds: {way:?}", way.len(), self.worlds);
        assert_eq!(broken.promise, promise, "{broken:?} after {way:?}");
    }
}

/// Breadth first, hence the shortest way to a broken promise.
pub fn explore<M: Model>(first: M, setup: &M::Setup) -> Report<M> {
    let mut numbers = HashMap::from([(fingerprint(&first), 0_u32)]);
    // How each world was reached first; nothing leads to the first one.
    let mut ways: Vec<Option<(u32, M::Action)>> = vec![None];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut trail = Trail(BTreeSet::new());
    let mut queue = VecDeque::from([(0_u32, first)]);
    let mut broken = None;
    'worlds: while let Some((number, world)) = queue.pop_front() {
        let next = world.actions(setup);
        if let Err(found) = world.rests(setup, &next) {
            broken = Some((found, way(&ways, number)));
            break;
        }
        for action in next {
            let mut world = world.clone();
            if let Err(found) = world.step(setup, &mut trail, action) {
                let mut steps = way(&ways, number);
                steps.push(action);
                broken = Some((found, steps));
                break 'worlds;
            }
            let new = ways.len() as u32;
            let child = *numbers.entry(fingerprint(&world)).or_insert(new);
            edges.push((number, child));
            if child == new {
                ways.push(Some((number, action)));
                queue.push_back((child, world));
            }
        }
        assert!(ways.len() < ENOUGH, "there is no end to it: {} of {} worlds are left", queue.len(), ways.len());
    }
    if broken.is_none() && goes_round(ways.len(), &edges) {
        broken = Some((Broken::new(M::END, "it may go round for ever"), Vec::new()));
    }
    Report { worlds: ways.len(), steps: edges.len(), trail, broken }
}

fn way<A: Copy>(ways: &[Option<(u32, A)>], mut number: u32) -> Vec<A> {
    let mut steps = Vec::new();
    while let Some((before, action)) = ways[number as usize] {
        steps.push(action);
        number = before;
    }
    steps.reverse();
    steps
}

/// Whether some world can be reached from itself: takes away worlds that nothing leads to, until none is left.
fn goes_round(worlds: usize, edges: &[(u32, u32)]) -> bool {
    let mut entries = vec![0_u32; worlds];
    edges.iter().for_each(|(_, to)| entries[*to as usize] += 1);
    let mut free: Vec<u32> = (0..worlds as u32).filter(|world| entries[*world as usize] == 0).collect();
    let mut gone = 0;
    while let Some(world) = free.pop() {
        gone += 1;
        // Worlds are visited in the order of their numbers, hence so are the edges that leave them.
        let start = edges.partition_point(|(from, _)| *from < world);
        for (_, to) in edges[start..].iter().take_while(|(from, _)| *from == world) {
            entries[*to as usize] -= 1;
            if entries[*to as usize] == 0 {
                free.push(*to);
            }
        }
    }
    gone < worlds
}

/// Configurations, each explored completely, with what each must have reached.
macro_rules! configurations {
    ($($name:ident: $setup:expr => [$($event:ident)*];)*) => {
        $(
            #[test]
            fn $name() {
                let setup = $setup;
                explore(World::new(&setup), &setup).keeps_all(stringify!($name), &[$(Event::$event),*]);
            }
        )*
    };
}

/// Mistakes, each with where it is found and the promise that it breaks.
macro_rules! mutants {
    ($($name:ident: $mutation:ident in $setup:expr => $promise:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let setup = Setup { mutation: Some(Mutation::$mutation), ..$setup };
                explore(World::new(&setup), &setup).breaks($promise);
            }
        )*
    };
}

pub(super) use {configurations, mutants};

/// Fails if a way back to where it began is not seen, however long it is, or is seen where two ways meet.
#[test]
fn what_goes_round_is_seen() {
    for (edges, round) in [
        (&[(0, 1), (0, 2), (1, 3), (2, 3)][..], false),
        (&[(0, 1), (1, 2), (2, 3)], false),
        (&[(0, 1), (1, 2), (2, 3), (3, 3)], true),
        (&[(0, 1), (1, 2), (2, 1), (2, 3)], true),
        (&[(0, 1), (1, 2), (2, 3), (3, 0)], true),
    ] {
        assert_eq!(goes_round(4, edges), round, "{edges:?}");
    }
}
