//! This program once more, as another process that is told what to do line by line.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A process, killed when this is dropped.
pub struct Process {
    orders: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Process {
    /// Starts it, and waits until it is ready.
    pub async fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started again");
        let orders = process.stdin.take().expect("its input is ours");
        let says = BufReader::new(process.stdout.take().expect("its output is ours")).lines();
        let mut started = Self { orders, says, _process: process };
        assert_eq!(started.hear().await, READY);
        started
    }

    pub async fn tell(&mut self, order: &str) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.expect("the process takes orders");
    }

    pub async fn hear(&mut self) -> String {
        self.says.next_line().await.expect("its output can be read").expect("the process did not end")
    }
}

const READY: &str = "ready";

/// On the other side: tells that this process is ready, and returns what it is told from then on.
pub fn orders() -> Lines<BufReader<Stdin>> {
    println!("{READY}");
    BufReader::new(tokio::io::stdin()).lines()
}
