use super::*;

#[test]
fn heights_are_pushed_as_nodes_check_them() {
    for (height, push) in [
        (0, vec![0]),
        (1, vec![0x51]),
        (16, vec![0x60]),
        (17, vec![1, 17]),
        (127, vec![1, 127]),
        (128, vec![2, 128, 0]),
        (840_000, vec![3, 0x40, 0xd1, 0x0c]),
        (0x0080_0000, vec![4, 0, 0, 0x80, 0]),
    ] {
        let mut out = Vec::new();
        push_height(height, &mut out);
        assert_eq!(out, push, "{height}");
        if height > 0 {
            let theirs = bitcoin::script::Builder::new().push_int(i64::from(height)).into_script();
            assert_eq!(out, theirs.as_bytes(), "{height}");
        }
    }
}
