//! What is served: greetings that take a while.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tonic::{
    Request, Response, Status, Streaming,
    codegen::tokio_stream::{self, Stream, StreamExt},
};

use crate::greeter::{HelloReply, HelloRequest, RepeatRequest, greeter_server::Greeter};

/// Takes its time for every greeting, and counts how often it began to.
#[derive(Clone)]
pub struct Slow {
    work: Duration,
    executions: Arc<AtomicU64>,
}

impl Slow {
    pub fn new(work: Duration) -> Self {
        Self { work, executions: Arc::default() }
    }

    /// How often a method began.
    pub fn executions(&self) -> u64 {
        self.executions.load(Ordering::Relaxed)
    }

    /// A new execution, the greetings of which it numbers.
    fn begin(&self) -> u64 {
        self.executions.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn greeting(name: &str, execution: u64) -> HelloReply {
    HelloReply { message: format!("Hello, {name}!"), execution, process: std::process::id() }
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Slow {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let execution = self.begin();
        sleep(self.work).await;
        match request.into_inner().name.as_str() {
            "" => Err(Status::invalid_argument("nobody is named")),
            name => Ok(Response::new(greeting(name, execution))),
        }
    }

    type RepeatStream = Replies;

    /// The first greeting comes at once.
    async fn repeat(&self, request: Request<RepeatRequest>) -> Result<Response<Replies>, Status> {
        let (execution, work) = (self.begin(), self.work);
        let RepeatRequest { name, times } = request.into_inner();
        let replies = tokio_stream::iter(0..times).then(move |time| {
            let reply = greeting(&name, execution);
            async move {
                if time > 0 {
                    sleep(work).await;
                }
                Ok(reply)
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn gather(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<HelloReply>, Status> {
        let execution = self.begin();
        let mut requests = request.into_inner();
        let mut names = Vec::new();
        while let Some(HelloRequest { name }) = requests.message().await? {
            names.push(name);
        }
        Ok(Response::new(greeting(&names.join(", "), execution)))
    }

    type ChatStream = Replies;

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Replies>, Status> {
        let execution = self.begin();
        let replies = request.into_inner().map(move |request| Ok(greeting(&request?.name, execution)));
        Ok(Response::new(Box::pin(replies)))
    }
}
