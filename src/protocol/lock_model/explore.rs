//! Visits every world that can be reached, once. Each step spends something (time, an attempt, a fault, what is in the
//! air), so there is an end to it.

use std::collections::{HashSet, VecDeque};

use super::{
    check::{Broken, Trail},
    step::{Action, actions, ended, step},
    world::{Setup, World, fingerprint},
};

/// More worlds than any configuration may have.
const ENOUGH: usize = 1_500_000;

/// What an exploration found.
pub(super) struct Report {
    pub worlds: usize,
    pub trail: Trail,
    /// The first broken promise, and the shortest way there.
    pub broken: Option<(Broken, Vec<Action>)>,
}

/// Breadth first, hence the shortest way to a broken promise.
pub(super) fn explore(setup: &Setup) -> Report {
    let first = World::new(setup);
    let mut known = HashSet::from([fingerprint(&first)]);
    let mut ways: Vec<(u32, Action)> = vec![(0, Action::Tick { fast: None })];
    let mut trail = Trail::default();
    let mut queue = VecDeque::from([(0_u32, first)]);
    let mut broken = None;
    'worlds: while let Some((number, world)) = queue.pop_front() {
        let next = actions(&world, setup);
        let end = if next.is_empty() { ended(&world, setup) } else { Ok(()) };
        if let Err(found) = end {
            broken = Some((found, way(&ways, number)));
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
            if known.insert(fingerprint(&world)) {
                queue.push_back((ways.len() as u32, world));
                ways.push((number, action));
            }
        }
        assert!(ways.len() < ENOUGH, "there is no end to it: {} of {} worlds are left", queue.len(), ways.len());
    }
    Report { worlds: ways.len(), trail, broken }
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
