use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use axum::BoxError;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{LOCK_TTL, RESULT_TTL};

/// Copies of the example `axum`, killed when they are dropped.
pub struct Fleet(Vec<Replica>);

pub struct Replica {
    pub name: String,
    /// Such as `http://127.0.0.1:3000`.
    pub url: String,
    process: Child,
}

impl Fleet {
    pub async fn start(replicas: u64, redis: &str) -> Result<Self, BoxError> {
        let program = program().await?;
        let mut fleet = Vec::new();
        for number in 1..=replicas {
            fleet.push(Replica::start(&program, format!("r{number}"), redis).await?);
        }
        Ok(Self(fleet))
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|replica| replica.name.as_str()).collect()
    }

    pub fn replicas(&self) -> &[Replica] {
        &self.0
    }

    /// Ends a replica the hard way (SIGKILL): it can tell nobody.
    pub async fn kill(&mut self, name: &str) -> Result<(), BoxError> {
        let replica = self.0.iter_mut().find(|replica| replica.name == name).ok_or("no such replica")?;
        Ok(replica.process.kill().await?)
    }
}

impl Replica {
    async fn start(program: &Path, name: String, redis: &str) -> Result<Self, BoxError> {
        let mut process = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--redis", redis, "--replica", &name])
            .args(["--lock-ttl-ms", &LOCK_TTL.as_millis().to_string()])
            .args(["--result-ttl-ms", &RESULT_TTL.as_millis().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        // The one line that it prints, when it is ready.
        let mut lines = BufReader::new(process.stdout.take().ok_or("a replica has no output")?).lines();
        let line = lines.next_line().await?.ok_or_else(|| format!("{name} did not start"))?;
        let url = line.strip_prefix("listening on ").ok_or_else(|| format!("{name} says {line:?}"))?.to_owned();
        Ok(Self { name, url, process })
    }
}

/// The example `axum`, which cargo puts beside this one. `cargo run` builds only what it runs, so it may not be there.
async fn program() -> Result<PathBuf, BoxError> {
    let program = env::current_exe()?.with_file_name(format!("axum{}", env::consts::EXE_SUFFIX));
    if !program.exists() {
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--example", "axum", "--manifest-path"]);
        build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        if program.ancestors().nth(2).is_some_and(|profile| profile.ends_with("release")) {
            build.arg("--release");
        }
        let built = build.kill_on_drop(true).status().await?;
        if !built.success() || !program.exists() {
            return Err(format!("{} is missing: run `cargo build --examples`", program.display()).into());
        }
    }
    Ok(program)
}
