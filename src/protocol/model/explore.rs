//! Visits every world that can be reached, once.

use std::collections::{HashMap, VecDeque};

use super::{
    check::{Broken, Event, Trail},
    step::{Action, actions, step},
    world::{Person, S, Setup, World, fingerprint},
};

/// More worlds than any configuration has: past it, something goes round for ever.
const ENOUGH: usize = 3_000_000;

/// Seconds after which everything has ended, once nobody comes any more and nothing goes wrong.
const PATIENCE: u64 = 60;

/// What an exploration found.
pub(super) struct Report {
    pub worlds: usize,
    pub steps: usize,
    pub trail: Trail,
    /// The first broken promise, and the shortest way there.
    pub broken: Option<(Broken, Vec<Action>)>,
}

impl Report {
    pub fn saw(&self, event: Event) -> bool {
        self.trail.0.contains(&event)
    }
}

/// Breadth first, hence the shortest way to a broken promise.
pub(super) fn explore(setup: &Setup) -> Report {
    let first = World::new(setup);
    let mut numbers = HashMap::from([(fingerprint(&first), 0_u32)]);
    let mut ways: Vec<(u32, Action)> = vec![(0, Action::Wait(0))];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut trail = Trail::default();
    let mut queue = VecDeque::from([(0_u32, first)]);
    let mut broken = None;
    'worlds: while let Some((number, world)) = queue.pop_front() {
        let next = actions(&world, setup);
        if let Err(stuck) = ended(&world, setup, &next) {
            broken = Some((stuck, way(&ways, number)));
            break;
        }
        for action in next {
            let mut world = world.clone();
            if let Err(found) = step(&mut world, setup, &mut trail, action) {
                let mut steps = way(&ways, number);
                steps.push(action);
                broken = Some((found, steps));
                break 'worlds;
            }
            let new = ways.len() as u32;
            let child = *numbers.entry(fingerprint(&world)).or_insert(new);
            edges.push((number, child));
            if child == new {
                ways.push((number, action));
                queue.push_back((child, world));
            }
        }
        assert!(ways.len() < ENOUGH, "there is no end to it: {} of {} worlds are left", queue.len(), ways.len());
    }
    if broken.is_none() && goes_round(ways.len(), &edges) {
        broken = Some((Broken::new("I4", "it may go round for ever"), Vec::new()));
    }
    Report { worlds: ways.len(), steps: edges.len(), trail, broken }
}

/// Where nothing brings the end nearer, it has been reached: everybody has an answer, no flight is in the air.
fn ended(world: &World, setup: &Setup, next: &[Action]) -> Result<(), Broken> {
    Broken::unless(world.now < (setup.horizon + PATIENCE) * S, "I4", "there is no end to it")?;
    if next.iter().any(|action| action.is_progress()) {
        return Ok(());
    }
    let waits = world.callers.iter().any(|person| matches!(person, Person::Waiting { .. }));
    Broken::unless(!waits, "I4", "a caller waits for ever")?;
    let flies = world.replicas.iter().any(|replica| !replica.holders.is_empty());
    Broken::unless(!flies, "I4", "a flight is never over")
}

fn way(ways: &[(u32, Action)], mut number: u32) -> Vec<Action> {
    let mut steps = Vec::new();
    while number != 0 {
        let (before, action) = ways[number as usize];
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
