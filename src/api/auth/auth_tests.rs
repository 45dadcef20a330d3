//! The door, tried.

use super::*;

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
    let signed_in = keeper.sign_in(start);
    let known = keeper.session(&signed_in.cookie, start).unwrap();
    assert_eq!(known.csrf_token, signed_in.csrf_token);
    assert!(keeper.session("0", start).is_none());
    assert!(keeper.session(&signed_in.cookie, start + signed_in.expires_in).is_none());
    keeper.sign_out(&signed_in.cookie);
    assert!(keeper.session(&signed_in.cookie, start).is_none());
    let signed_in = keeper.sign_in(start);
    keeper.set_password(Some(Password::parse("another horse").unwrap()));
    assert!(keeper.session(&signed_in.cookie, start).is_none());
}

#[test]
fn sessions_are_bounded() {
    let keeper = keeper();
    let start = now();
    let first = keeper.sign_in(start);
    for _ in 0..31 {
        keeper.sign_in(start);
    }
    assert!(keeper.session(&first.cookie, start).is_some());
    keeper.sign_in(start);
    assert!(keeper.session(&first.cookie, start).is_none());
}
