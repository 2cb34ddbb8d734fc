//! What the lock protects: a file that is read, changed and written, and comes out wrong if two do that at once.

use std::{
    array,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A file that goes with this value.
pub struct Counter(PathBuf);

impl Counter {
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("peers-{}-counter-{next}", std::process::id()));
        fs::write(&path, [0; 24]).expect("the directory for temporary files is writable");
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the directory for temporary files has a plain name")
    }

    /// How often the lock was held, and how often by another than the time before.
    pub fn read(&self) -> (u64, u64) {
        let [count, changes, _] = read(&File::open(&self.0).expect("the counter is there"));
        (count, changes)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A member's access to the file.
pub fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).expect("the counter is there")
}

/// Counts one who holds the lock. Written in place: to truncate the file would take longer than the lock does.
pub async fn count(file: &File, contender: u64) {
    let [count, changes, last] = read(file);
    // The others of this process could not come between otherwise, whatever the lock does.
    tokio::task::yield_now().await;
    let numbers = [count + 1, changes + u64::from(last != contender), contender];
    file.write_all_at(numbers.map(u64::to_le_bytes).as_flattened(), 0).expect("the counter can be written");
}

/// How often the lock was held, how often by another than the time before, and by whom at last.
fn read(file: &File) -> [u64; 3] {
    let mut bytes = [0; 24];
    file.read_exact_at(&mut bytes, 0).expect("the counter can be read");
    array::from_fn(|at| u64::from_le_bytes(bytes.as_chunks().0[at]))
}
