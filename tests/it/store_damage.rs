//! The program on a damaged store: it restores what can be had and says so, or refuses to start
//! with the way on; it never starts empty by itself.

use std::path::Path;

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript};
use cm_testkit::process::wait_until;

use crate::common::{DEADLINE, MANAGER, text};
use crate::fake_app::{create, run_turn, said, with_fake};

fn start(data: &Path) -> TestApp {
    with_fake(FakeScript::always(Behaviour::correct())).data_dir(data).start()
}

/// Makes a store with one session that said something, and answers its id.
fn fill(data: &Path) -> String {
    let app = start(data);
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    assert_eq!(app.terminate().code, Some(0));
    session
}

fn exports(data: &Path) -> usize {
    std::fs::read_dir(data.join("exports")).map_or(0, Iterator::count)
}

fn epoch(app: &TestApp) -> String {
    text(&app.get("/api/runtime").expect_status(200).body["epoch"])
}

#[test]
fn an_orderly_stop_leaves_an_export_and_a_lost_database_is_restored_from_it() {
    let dir = TestDir::new("damage");
    let data = dir.join("data");
    let session = fill(&data);
    assert_eq!(exports(&data), 1);
    let app = start(&data);
    let (first, shown) = (epoch(&app), said(&app, &session));
    app.terminate();
    std::fs::remove_file(data.join("store/db")).expect("the database");

    let app = start(&data);
    assert_eq!(said(&app, &session), shown);
    assert_ne!(epoch(&app), first);
    let health = app.get("/api/health").expect_status(200).body;
    assert_eq!(health["store"]["state"], "restored");
    assert!(health["store"]["restoredUpTo"].is_string(), "{health}");
    let copy = text(&health["store"]["damagedCopy"]);
    assert!(Path::new(&copy).is_dir(), "{copy}");
    assert_eq!(health["warnings"][0]["code"], "store_restored");
    // That is no reason not to work.
    create(&app);
    app.terminate();
    std::fs::remove_dir_all(copy).expect("the damaged copy");
    let app = start(&data);
    assert_eq!(app.get("/api/health").body["store"]["state"], "ok");
    assert_eq!(said(&app, &session), shown);
}

#[test]
fn without_an_export_it_refuses_until_a_person_decides() {
    let dir = TestDir::new("damage");
    let data = dir.join("data");
    let session = fill(&data);
    let export = std::fs::read_dir(data.join("exports")).expect("exports").next();
    let export = export.expect("an export").expect("an export").path();
    let kept = dir.join("kept.jsonl");
    std::fs::rename(&export, &kept).expect("the export");
    std::fs::write(data.join("store/db"), b"").expect("the database");
    for _ in 0..2 {
        let fake = with_fake(FakeScript::always(Behaviour::correct()));
        let exited = fake.data_dir(&data).try_start().expect_err("it starts on a lost store");
        assert_eq!(exited.code, Some(2), "{exited}");
        for words in ["data_dir_unusable", "store import", "store init"] {
            assert!(exited.stderr.contains(words), "{exited}");
        }
        assert!(!exited.stderr.contains("panicked"), "{exited}");
    }
    let tool = |arguments: &[&std::ffi::OsStr]| {
        let mut command = std::process::Command::new(MANAGER);
        command.arg("store").args(arguments).arg("--data-dir").arg(&data);
        command.output().expect("the program runs")
    };
    let imported = tool(&["import".as_ref(), kept.as_os_str()]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let app = start(&data);
    assert!(!said(&app, &session).is_empty());
    app.terminate();
    std::fs::remove_dir_all(data.join("store")).expect("the store");
    let made = tool(&["init".as_ref()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let app = start(&data);
    app.get(&format!("/api/sessions/{session}")).expect_status(404);
}

#[test]
fn it_is_exported_while_it_runs() {
    let dir = TestDir::new("damage");
    let data = dir.join("data");
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .data_dir(&data)
        .env("CODEX_MANAGER_STORE_EXPORT_MS", "100")
        .start();
    for _ in 0..5 {
        let before = newest(&data);
        create(&app);
        wait_until("there is another export", DEADLINE, || newest(&data) > before);
    }
    assert!(exports(&data) <= 4, "three, and one that is being written");
}

fn newest(data: &Path) -> Option<std::ffi::OsString> {
    let entries = std::fs::read_dir(data.join("exports")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "jsonl")).max()
}
