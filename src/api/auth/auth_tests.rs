//! The door, tried.

use std::net::IpAddr;

use super::{password::PasswordError, *};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 2));

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any origin will do")]
    Instant::now()
}

fn keeper() -> Gatekeeper {
    let keeper = Gatekeeper::default();
    keeper.set_password(Some(Password::parse("correct horse\n").unwrap()));
    keeper
}

fn attempt(keeper: &Gatekeeper, ip: IpAddr, given: &str, now: Instant) -> Result<(), Denied> {
    keeper.begin(ip, given, now)?.map_or(Ok(()), Check::run)
}

#[test]
fn both_forms_of_the_file_are_understood() {
    let plain = Password::parse("correct horse\r\nsecond line").unwrap();
    assert!(plain.is("correct horse") && !plain.is("correct horse "));
    let hash = plain.0.to_string();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    let hashed = Password::parse(&format!("{hash}\n")).unwrap();
    assert!(hashed.is("correct horse") && !hashed.is(&hash));
    assert_eq!(format!("{plain:?}"), "<redacted>");
}

#[test]
fn a_bad_file_is_refused_in_words() {
    assert_eq!(Password::parse("\nlate").unwrap_err(), PasswordError::Empty);
    assert_eq!(Password::parse("bolt").unwrap_err(), PasswordError::Short(4));
    let error = Password::parse("$argon2id$v=19$nonsense").unwrap_err();
    assert!(error.to_string().contains("begins like an argon2 hash"), "{error}");
}

#[test]
fn nobody_gets_in_without_a_password() {
    let keeper = Gatekeeper::default();
    assert_eq!(attempt(&keeper, HOME, "", now()), Err(Denied::ReadOnly));
    assert!(!keeper.has_password());
}

#[test]
fn guessing_is_slowed_down_where_it_comes_from() {
    let keeper = keeper();
    let start = now();
    for _ in 0..5 {
        assert_eq!(attempt(&keeper, HOME, "wrong", start), Err(Denied::WrongPassword));
    }
    // Even the right one has to wait now, or guessing would go on in parallel.
    let wait = Duration::from_secs(10);
    assert_eq!(attempt(&keeper, HOME, "correct horse", start), Err(Denied::Wait(wait)));
    let other: IpAddr = "192.168.1.3".parse().unwrap();
    assert_eq!(attempt(&keeper, other, "correct horse", start), Ok(()));
    let later = start + wait;
    assert_eq!(attempt(&keeper, HOME, "wrong", later), Err(Denied::WrongPassword));
    let Err(Denied::Wait(next)) = attempt(&keeper, HOME, "wrong", later) else { panic!("let in") };
    assert_eq!(next, 2 * wait);
    let later = start + Duration::from_secs(4000);
    assert_eq!(attempt(&keeper, HOME, "wrong again", later), Err(Denied::WrongPassword));
}

#[test]
fn neighbours_in_ipv6_count_as_one() {
    let keeper = keeper();
    let start = now();
    for n in 0..5u16 {
        let ip = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        assert_eq!(attempt(&keeper, ip, "wrong", start), Err(Denied::WrongPassword));
    }
    let ip = "2001:db8::ffff".parse().unwrap();
    assert!(matches!(attempt(&keeper, ip, "wrong", start), Err(Denied::Wait(_))));
}

#[test]
fn a_right_password_is_remembered_and_clears_the_count() {
    let keeper = keeper();
    let start = now();
    for _ in 0..4 {
        assert!(attempt(&keeper, HOME, "wrong", start).is_err());
    }
    assert_eq!(attempt(&keeper, HOME, "correct horse", start), Ok(()));
    assert!(keeper.begin(HOME, "correct horse", start).unwrap().is_none(), "no second hash");
    assert!(keeper.begin(HOME, "correct horsf", start).unwrap().is_some());
    keeper.set_password(Some(Password::parse("another horse").unwrap()));
    assert_eq!(attempt(&keeper, HOME, "correct horse", start), Err(Denied::WrongPassword));
}

#[test]
fn only_so_many_are_checked_at_once() {
    let keeper = keeper();
    let start = now();
    let first = keeper.begin(HOME, "a", start).unwrap();
    let second = keeper.begin(HOME, "b", start).unwrap();
    assert_eq!(keeper.begin(HOME, "c", start).unwrap_err(), Denied::Busy);
    drop((first, second));
    assert!(keeper.begin(HOME, "c", start).unwrap().is_some());
}

#[test]
fn sessions_last_a_day_and_end_with_the_password() {
    let keeper = keeper();
    let start = now();
    let signed_in = keeper.sign_in(Bound::default(), start);
    let known = keeper.session(&signed_in.cookie, start).unwrap();
    assert_eq!(known.csrf_token, signed_in.csrf_token);
    assert!(keeper.session("0", start).is_none());
    assert!(keeper.session(&signed_in.cookie, start + signed_in.expires_in).is_none());
    keeper.sign_out(&signed_in.cookie);
    assert!(keeper.session(&signed_in.cookie, start).is_none());
    let signed_in = keeper.sign_in(Bound::default(), start);
    keeper.set_password(Some(Password::parse("another horse").unwrap()));
    assert!(keeper.session(&signed_in.cookie, start).is_none());
}

#[test]
fn sessions_are_bounded() {
    let keeper = keeper();
    let start = now();
    let first = keeper.sign_in(Bound::default(), start);
    for _ in 0..31 {
        keeper.sign_in(Bound::default(), start);
    }
    assert!(keeper.session(&first.cookie, start).is_some());
    keeper.sign_in(Bound::default(), start);
    assert!(keeper.session(&first.cookie, start).is_none());
}

#[test]
fn strangers_lock_nobody_else_out() {
    let keeper = keeper();
    let start = now();
    let stranger = |last| Guest {
        client: IpAddr::from([203, 0, 113, last]),
        via: Some(IpAddr::from([127, 0, 0, 1])),
    };
    // Behind the owner's proxy, one after the other.
    for n in 0..40 {
        assert_eq!(attempt_of(&keeper, stranger(n / 5), start), Err(Denied::WrongPassword));
    }
    assert!(matches!(attempt_of(&keeper, stranger(0), start), Err(Denied::Wait(_))));
    let owner = Guest { client: HOME, ..stranger(0) };
    let let_in =
        |guest: Guest, at| keeper.begin(guest, "correct horse", at)?.map_or(Ok(()), Check::run);
    assert_eq!(let_in(owner, start), Ok(()));
    // A proxy that names nobody: who guesses behind it costs the owner a second at most.
    let here = IpAddr::from([127, 0, 0, 1]);
    for n in 0..30 {
        let at = start + Duration::from_secs(n);
        assert_eq!(attempt(&keeper, here, "wrong", at), Err(Denied::WrongPassword), "{n}");
    }
    let end = start + Duration::from_secs(30);
    assert_eq!(let_in(here.into(), end), Ok(()));
}

fn attempt_of(keeper: &Gatekeeper, guest: Guest, now: Instant) -> Result<(), Denied> {
    keeper.begin(guest, "wrong", now)?.map_or(Ok(()), Check::run)
}

#[test]
fn nobody_waits_longer_than_a_minute_nor_for_want_of_places() {
    let keeper = keeper();
    let mut at = now();
    for _ in 0..12 {
        match attempt(&keeper, HOME, "wrong", at) {
            Err(Denied::Wait(wait)) => {
                assert!(wait <= Duration::from_secs(60), "{wait:?}");
                at += wait;
            }
            other => assert_eq!(other, Err(Denied::WrongPassword)),
        }
    }
    let mut attempts = Attempts::default();
    for n in 0..20_000u32 {
        let ip = IpAddr::from((0x0100_0000 + n).to_be_bytes());
        assert_eq!(attempts.begin(ip.into(), at), Ok(()), "{n}");
    }
}

#[test]
fn the_first_settings_take_the_code() {
    let code = Arc::new(SetupCode::make());
    let keeper = Gatekeeper::new(Some(Arc::clone(&code)));
    let start = now();
    assert_eq!(keeper.check_code(HOME, "0000-0000", start), Err(Denied::WrongCode));
    assert_eq!(keeper.check_code(HOME, &code.shown(), start), Ok(()));
    for _ in 0..5 {
        assert_eq!(keeper.check_code(HOME, "guess", start), Err(Denied::WrongCode));
    }
    assert!(matches!(keeper.check_code(HOME, &code.shown(), start), Err(Denied::Wait(_))));
    assert_eq!(Gatekeeper::default().check_code(HOME, "", start), Err(Denied::WrongCode));
    // The settings are read again: whoever sets up is still in.
    let bound = Bound { origin: None, sets_up: true };
    let session = keeper.sign_in(bound.clone(), start);
    keeper.set_password(None);
    assert_eq!(keeper.session(&session.cookie, start).unwrap().bound, bound);
}
