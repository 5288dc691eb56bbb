//! Takes away what puts that were killed have left in a folder: files named `NAME#123`, which listings hide.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use url::Url;

/// Deletes what was left so long ago below a place, and returns its names; with `dry_run`, it deletes nothing.
/// A store that is no folder keeps its own house.
///
/// A put that is this slow fails, and is made again.
///
/// # Errors
/// The system's.
pub async fn sweep(place: &Url, older_than: Duration, dry_run: bool) -> io::Result<Vec<String>> {
    let folder = match place.scheme() {
        "file" => place.to_file_path().ok(),
        _ => None,
    };
    let Some(folder) = folder else {
        return Ok(Vec::new());
    };
    let swept = tokio::task::spawn_blocking(move || {
        let left = leftovers(&folder, older_than)?;
        if !dry_run {
            left.iter()
                .try_for_each(|path| gone(fs::remove_file(path)))?;
        }
        let names = left
            .iter()
            .filter_map(|path| path.strip_prefix(&folder).ok());
        Ok(names.map(|name| name.display().to_string()).collect())
    });
    swept.await.map_err(io::Error::other)?
}

fn leftovers(folder: &Path, older_than: Duration) -> io::Result<Vec<PathBuf>> {
    let now = SystemTime::now();
    let (mut folders, mut left) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_str().is_some_and(is_staged) {
                // It may be published or gone by now.
                let modified = entry.metadata().and_then(|data| data.modified());
                let age = modified.ok().and_then(|at| now.duration_since(at).ok());
                if age.is_some_and(|age| older_than <= age) {
                    left.push(entry.path());
                }
            }
        }
    }
    left.sort_unstable();
    Ok(left)
}

fn is_staged(name: &str) -> bool {
    let digits = name.rsplit_once('#').map_or("", |(_, digits)| digits);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_left_long_ago_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("day=1");
        fs::create_dir(&day).unwrap();
        let now = SystemTime::now();
        for (name, hours) in [("a#12", 3), ("a#13", 1), ("a", 3), ("a#b1", 3), ("#", 3)] {
            let file = fs::File::create(day.join(name)).unwrap();
            file.set_modified(now - Duration::from_hours(hours))
                .unwrap();
        }
        let place = Url::from_directory_path(folder.path()).unwrap();
        let hours = Duration::from_hours(2);
        for dry_run in [true, false] {
            let swept = sweep(&place, hours, dry_run).await.unwrap();
            assert_eq!(swept, ["day=1/a#12"]);
        }
        assert!(sweep(&place, hours, false).await.unwrap().is_empty());
        assert_eq!(fs::read_dir(&day).unwrap().count(), 4);
    }

    #[tokio::test]
    async fn other_places_keep_their_own_house() {
        let hour = Duration::from_hours(1);
        for place in ["s3://bucket/lake", "file:///there/is/no/such/folder"] {
            let swept = sweep(&Url::parse(place).unwrap(), hour, false).await;
            assert!(swept.unwrap().is_empty());
        }
    }
}
