//! Examples in processes of their own.

use std::{
    env,
    ffi::OsStr,
    io,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

/// A process that listens. It is killed with this value, stopped or not.
pub struct Example {
    process: Child,
    /// Where it listens: address and port.
    pub place: String,
}

impl Example {
    /// An example that listens, on a free port; more arguments are its own.
    pub async fn start(name: &str, args: &[&str]) -> Self {
        let program = build().join(format!("{name}{}", env::consts::EXE_SUFFIX));
        let mut process = tokio::process::Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Panics and failures that tests ask for.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the example was built");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is ours")).lines();
        let line = lines.next_line().await.expect("its output is text").unwrap_or_default();
        let Some(place) = line.strip_prefix("listening on http://") else {
            panic!("{name} with the arguments {args:?} says {line:?} instead of where it listens");
        };
        Self { process, place: place.to_owned() }
    }

    /// How it ended.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.wait().await.expect("the process is ours")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        kill_process(pid.expect("the process has not ended"), signal).expect("the process can be signalled");
    }
}

/// Where the examples are, up to date: a test may have been built without them, or before they were changed. The first call
/// takes as long as building them takes.
pub fn build() -> &'static PathBuf {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        // Cargo puts tests into `<target>/<profile>/deps`.
        let test = env::current_exe().expect("a test knows where it is");
        let profile = test.ancestors().nth(2).expect("a test lies in a profile's directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--all-features"]);
        build.args(
            ["axum", "client", "gather-stats", "hyper", "mutex", "reverse-proxy", "tonic"]
                .iter()
                .flat_map(|name| ["--example", name]),
        );
        build.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
        build.arg("--target-dir").arg(profile.with_file_name(""));
        if profile.file_name() == Some(OsStr::new("release")) {
            build.arg("--release");
        }
        let built: io::Result<ExitStatus> = build.status();
        let built = built.expect("cargo runs tests, and can run");
        assert!(built.success(), "the examples cannot be built: run `cargo build --all-features --examples`");
        profile.join("examples")
    })
}
