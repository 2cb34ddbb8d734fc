use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// What the callers of one process share through a backend handle: its tables of flights in the air.
///
/// Every clone of a handle returns the same `Locals`; two handles made apart have two, and behave like two replicas.
#[derive(Clone, Default)]
pub struct Locals(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Locals {
    /// The shared value of type `S`, made on first use.
    pub(crate) fn get<S: Any + Send + Sync + Default>(&self) -> Arc<S> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let any = shared.entry(TypeId::of::<S>()).or_insert_with(|| Arc::<S>::default());
        Arc::clone(any).downcast().expect("the value under a type's id is of that type")
    }

    /// Whether both come from clones of one handle.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Locals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locals").finish_non_exhaustive()
    }
}
