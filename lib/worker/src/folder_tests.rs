use std::sync::Mutex;

use object_store::ObjectStoreExt;

use super::*;

/// What was synced, and which objects had their names by then.
type Synced = Arc<Mutex<Vec<(String, Vec<String>)>>>;

struct World {
    place: tempfile::TempDir,
    folder: Folder,
    synced: Synced,
}

impl World {
    fn new() -> World {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let synced = Synced::default();
        let (told, above) = (synced.clone(), root.clone());
        let folder = Folder::open_with(
            &root.join("store"),
            Arc::new(move |_, path| {
                let name = path.strip_prefix(&above).unwrap().display().to_string();
                let name = name.split('#').next().unwrap().to_owned();
                told.lock().unwrap().push((name, objects(&above)));
                Ok(())
            }),
        );
        World {
            place,
            folder: folder.unwrap(),
            synced,
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from_absolute_path(self.folder.root().join(name)).unwrap()
    }

    fn synced(&self) -> Vec<(String, Vec<String>)> {
        std::mem::take(&mut self.synced.lock().unwrap())
    }

    fn objects(&self) -> Vec<String> {
        objects(self.place.path())
    }
}

/// Returns all files below a folder, staged ones as `#`.
fn objects(folder: &FilePath) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(objects(&entry.path())),
            false if name.contains('#') => found.push("#".to_owned()),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

fn told(steps: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let step = |(path, there): &(&str, &[&str])| ((*path).to_owned(), owned(there));
    steps.iter().map(step).collect()
}

#[tokio::test]
async fn bytes_are_on_the_disk_before_the_name_and_the_name_before_the_answer() {
    let world = World::new();
    assert_eq!(world.synced(), told(&[("", &[])]), "the store itself");

    let rows = world.path("t/day/a");
    world.folder.put(&rows, "rows".into()).await.unwrap();
    let names = [
        ("store/t/day/a", &["#"] as &[&str]),
        ("store/t/day", &["a"]),
        ("store/t", &["a"]),
        ("store", &["a"]),
    ];
    assert_eq!(world.synced(), told(&names));

    let commit = world.path("t/log/1");
    let create = || PutOptions::from(PutMode::Create);
    let put = world.folder.put_opts(&commit, "a".into(), create());
    put.await.unwrap();
    let names = [
        ("store/t/log/1", &["#", "a"] as &[&str]),
        ("store/t/log", &["1", "a"]),
        ("store/t", &["1", "a"]),
        ("store", &["1", "a"]),
    ];
    assert_eq!(world.synced(), told(&names));

    let again = world.folder.put_opts(&commit, "b".into(), create()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    let kept = world.folder.get(&commit).await.unwrap().bytes().await;
    assert_eq!(kept.unwrap(), "a");
    assert_eq!(world.objects(), ["1", "a"], "nothing is left of it");
}

#[tokio::test]
async fn parts_come_in_any_order_and_are_synced_as_one() {
    let world = World::new();
    world.synced();
    let path = world.path("big");
    let mut upload = world.folder.put_multipart(&path).await.unwrap();
    let first = upload.put_part("one, ".into());
    let second = upload.put_part("two".into());
    second.await.unwrap();
    first.await.unwrap();
    assert_eq!(world.objects(), ["#"]);
    upload.complete().await.unwrap();
    assert_eq!(
        world.synced(),
        told(&[("store/big", &["#"]), ("store", &["big"])])
    );
    let got = world.folder.get(&path).await.unwrap().bytes().await;
    assert_eq!(got.unwrap(), "one, two");

    let mut upload = world.folder.put_multipart(&path).await.unwrap();
    upload.abort().await.unwrap();
    drop(world.folder.put_multipart(&path).await.unwrap());
    assert_eq!(world.objects(), ["big"]);
}

#[tokio::test]
async fn copies_and_new_names_are_synced_too() {
    let world = World::new();
    let [one, two, three] = ["a/1", "b/2", "c/3"].map(|name| world.path(name));
    world.folder.put(&one, "rows".into()).await.unwrap();
    world.synced();
    world.folder.copy(&one, &two).await.unwrap();
    let names = told(&[("store/b", &["1", "2"]), ("store", &["1", "2"])]);
    assert_eq!(world.synced(), names);
    world.folder.rename(&two, &three).await.unwrap();
    let there: &[&str] = &["1", "3"];
    let names = ["store/c", "store", "store/b", "store"].map(|name| (name, there));
    assert_eq!(world.synced(), told(&names));
}

#[tokio::test]
async fn an_object_whose_bytes_are_not_on_the_disk_gets_no_name() {
    let place = tempfile::tempdir().unwrap();
    let sick = Arc::new(|_: &File, _: &FilePath| Err(io::Error::other("the disk is sick")));
    let folder = Folder::open_with(place.path(), sick).unwrap();
    let path = Path::from_absolute_path(folder.root().join("a")).unwrap();
    let refused = folder.put(&path, "rows".into()).await.unwrap_err();
    assert!(
        refused.to_string().contains("the disk is sick"),
        "{refused}"
    );
    assert!(objects(place.path()).is_empty());
}
