use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(dir).unwrap().map(name).collect()
}

#[test]
fn a_key_is_made_once_and_then_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/authority.key");
    let made = load_or_create(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(path.parent().unwrap()), ["authority.key"]);
    assert!(text.contains(&made.public().to_string()), "{text}");

    let read = load_or_create(&path).unwrap();
    assert_eq!(read.public(), made.public());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let other = load_or_create(&dir.path().join("other.key")).unwrap();
    assert_ne!(other.public(), made.public());
}

#[test]
fn a_file_that_holds_no_key_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authority.key");
    let key = AuthorityKey::generate().to_file_text();
    let one_off = key.replacen(key.trim_end().chars().last().unwrap(), "0", usize::MAX);
    let cases: [&[u8]; 6] =
        [b"", b"# nothing but a remark\n", b"\xff\xfe", one_off.as_bytes(), &[b'1'; 99_999], b"x"];
    for bytes in cases {
        fs::write(&path, bytes).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, AuthorityError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "the file has changed");
    }
    assert_eq!(names(dir.path()), ["authority.key"]);
}

#[test]
fn a_key_that_others_can_read_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authority.key");
    let made = load_or_create(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load_or_create(&path).unwrap().public(), made.public());
    assert_eq!(mode(&path), 0o644, "the user's rights are the user's to change");
}

#[test]
fn what_cannot_be_read_or_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, AuthorityError::Read { .. }), "{error}");

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("authority.key");
    let error = load_or_create(&below).unwrap_err();
    assert!(error.to_string().contains(below.to_str().unwrap()), "{error}");

    let read_only = dir.path().join("proc");
    std::os::unix::fs::symlink("/proc", &read_only).unwrap();
    let error = load_or_create(&read_only.join("authority.key")).unwrap_err();
    assert!(matches!(error, AuthorityError::Write { .. }), "{error}");

    // A link to nowhere stays: the user may have forgotten to mount a disk.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("unmounted/authority.key"), &link).unwrap();
    let error = load_or_create(&link).unwrap_err();
    assert!(matches!(error, AuthorityError::Read { .. }), "{error}");
    assert!(link.is_symlink());
    let mut left = names(dir.path());
    left.sort();
    assert_eq!(left, ["file", "link", "proc"]);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authority.key");
    let first = AuthorityKey::generate();
    write(&path, &first.to_file_text()).unwrap();

    let error = write(&path, &AuthorityKey::generate().to_file_text()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(names(dir.path()), ["authority.key"]);
    // What `load_or_create` does when it finds itself outrun.
    assert_eq!(create(&path).unwrap().public(), first.public());
}
