use std::{fmt, slice, sync::Arc};

#[cfg(feature = "redis")]
use crate::backend::Redis;
use crate::backend::{Memory, lock::Locks};

/// A server on which locks are kept: a handle of a [`Redis`](crate::backend::Redis), or a [`Memory`].
///
/// Locks use the connections that the handle has already, whatever else it serves.
#[derive(Clone)]
pub struct Node(pub(super) Arc<dyn Locks>);

/// The nodes of a [`Mutex`](super::Mutex): one, or several independent ones.
///
/// Made from one handle, or from an array or a list of them.
#[derive(Clone, Debug)]
pub struct Nodes(Arc<[Node]>);

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.0[number]
    }

    pub(super) fn iter(&self) -> slice::Iter<'_, Node> {
        self.0.iter()
    }

    /// Two of them that are one and the same handle, if there are: they would vote twice.
    pub(super) fn repeated(&self) -> Option<(usize, usize)> {
        let same = |one: usize, other: usize| self.0[one].0.locals().is(self.0[other].0.locals());
        (0..self.len()).find_map(|one| (one + 1..self.len()).find(|other| same(one, *other)).map(|other| (one, other)))
    }
}

#[cfg(feature = "redis")]
impl From<Redis> for Node {
    fn from(redis: Redis) -> Self {
        Self(Arc::new(redis))
    }
}

impl From<Memory> for Node {
    fn from(memory: Memory) -> Self {
        Self(Arc::new(memory))
    }
}

impl<N: Into<Node>> From<N> for Nodes {
    fn from(node: N) -> Self {
        Self(Arc::new([node.into()]))
    }
}

impl<N: Into<Node>, const COUNT: usize> From<[N; COUNT]> for Nodes {
    fn from(nodes: [N; COUNT]) -> Self {
        Self(nodes.into_iter().map(Into::into).collect())
    }
}

impl<N: Into<Node>> From<Vec<N>> for Nodes {
    fn from(nodes: Vec<N>) -> Self {
        Self(nodes.into_iter().map(Into::into).collect())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}
