use std::{sync::Arc, time::Duration};

use super::{LockError, config::Config};
use crate::{
    backend::lock::Holding,
    protocol::{lease::Fence, quorum::Round},
};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockInfo {
    /// What the holder says of itself ([`Mutex::metadata`](super::Mutex::metadata)).
    pub metadata: Option<String>,
    /// How long it keeps the lock if it does not extend it.
    pub left: Duration,
    /// The greatest fence that a node knows of it.
    pub fence: Fence,
    /// The nodes that say so, by their position.
    pub nodes: Vec<usize>,
}

/// Asks the nodes who holds the lock. A node that does not answer may know it to be held by anybody.
pub(super) async fn inspect(config: &Arc<Config>) -> Result<Option<LockInfo>, LockError> {
    let nodes = config.nodes.len();
    let quorum = Round::new(nodes).quorum();
    let mut ballot = config.ask(|node, key| node.inspect(key));
    let (mut holdings, mut answers) = (Vec::new(), 0);
    while let Some((node, answer)) = ballot.next().await {
        let Some(answer) = answer else { continue };
        answers += 1;
        holdings.extend(answer.map(|holding| (node, holding)));
        // No other answer can change it.
        let most = most_held(&holdings).len();
        if most >= quorum || most + nodes - answers < quorum {
            break;
        }
    }
    let held = most_held(&holdings);
    // The others are not enough: whatever they say, it is free.
    if held.len() + nodes - answers < quorum {
        return Ok(None);
    }
    if answers < quorum {
        return Err(LockError::Quorum(ballot.failed()));
    }
    Ok((!held.is_empty()).then(|| LockInfo::of(&held, quorum)))
}

/// What the nodes say of the token that most of them know as the holder's.
fn most_held(holdings: &[(usize, Holding)]) -> Vec<&(usize, Holding)> {
    let of = |token| holdings.iter().filter(|(_, other)| other.token == token).collect::<Vec<_>>();
    holdings.iter().map(|(_, holding)| of(holding.token.clone())).max_by_key(Vec::len).unwrap_or_default()
}

impl LockInfo {
    fn of(held: &[&(usize, Holding)], quorum: usize) -> Self {
        let mut left: Vec<_> = held.iter().map(|(_, holding)| holding.left).collect();
        // It is over where fewer than a quorum are left.
        left.sort_unstable_by(|one, other| other.cmp(one));
        let mut nodes: Vec<_> = held.iter().map(|(node, _)| *node).collect();
        nodes.sort_unstable();
        Self {
            metadata: held[0].1.metadata.as_deref().map(str::to_owned),
            left: left[quorum.min(left.len()) - 1],
            fence: held.iter().map(|(_, holding)| holding.fence).max().unwrap_or_default(),
            nodes,
        }
    }
}
