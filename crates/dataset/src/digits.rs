//! Unsigned numbers with leading zeros, as dates and times have them.

/// Parses ASCII digits and nothing else: the standard library's `parse` also accepts a sign.
pub(crate) fn parse(text: &str) -> Option<u32> {
    let append = |number: u32, byte: u8| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'));
    if text.is_empty() { None } else { text.bytes().try_fold(0, append) }
}

/// Appends the last `width` digits of the number, with leading zeros.
pub(crate) fn write(number: u32, width: u32, out: &mut Vec<u8>) {
    let mut place_value = 10u32.pow(width - 1);
    while place_value > 0 {
        out.push(b'0' + u8::try_from(number / place_value % 10).unwrap_or(0));
        place_value /= 10;
    }
}
