use thiserror::Error;

use super::Alone;

/// Why [`Group::try_work`](super::Group::try_work) has no result.
#[derive(Debug, Error)]
pub enum Error<E> {
    /// The work ran and failed.
    #[error("the work failed")]
    Work(#[source] E),
    /// Nothing was run, or its result did not land: anything else might have been a second execution.
    #[error("one execution could not be assured: {0}")]
    Refused(Alone),
}
