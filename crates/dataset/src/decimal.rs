//! Exact decimal numbers: digits in, digits out, nothing rounded on the way.

use crate::Reason;

/// The digits of `text` without the point, as if it had exactly `scale` digits after it.
pub(crate) fn parse(text: &str, precision: u8, scale: u8) -> Result<i128, Reason> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    // A point needs a digit on either side: `5.` is more often a cut line than a number.
    let pointed = point < digits.len();
    let plain = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || (pointed && fraction.is_empty()) || !plain(whole) || !plain(fraction) {
        return Err(Reason::NotDecimal);
    }
    let whole = &whole[whole.iter().take_while(|digit| **digit == b'0').count()..];
    if whole.len() > usize::from(precision - scale) {
        return Err(Reason::DecimalPrecision { digits: precision - scale });
    }
    let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
    let fraction = &fraction[..fraction.len() - zeros];
    if fraction.len() > usize::from(scale) {
        return Err(Reason::DecimalScale { scale });
    }
    let scaled_by = usize::from(scale) - fraction.len();
    let unscaled = if whole.len() + usize::from(scale) <= SHORT {
        // Nearly every number is short, and 128 bits are slow.
        let append = |number: i64, digit: &u8| number * 10 + i64::from(digit - b'0');
        let number = fraction.iter().fold(whole.iter().fold(0, append), append);
        i128::from((0..scaled_by).fold(number, |number, _| number * 10))
    } else {
        // 38 digits at most, which an i128 holds.
        let append = |number: i128, digit: &u8| number * 10 + i128::from(digit - b'0');
        fraction.iter().fold(whole.iter().fold(0, append), append) * power(scaled_by)
    };
    Ok(if negative { -unscaled } else { unscaled })
}

/// Prints the number without trailing zeros after the point, and without the point where nothing follows it.
pub fn write(unscaled: i128, scale: u8, out: &mut Vec<u8>) {
    let (digits, scale) = (unscaled.unsigned_abs(), usize::from(scale));
    if digits == 0 {
        return out.push(b'0');
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let text = match u64::try_from(digits) {
        // Dividing 128 bits is slow, and nearly every number is short.
        Ok(short) => buffer.format(short),
        Err(_) => buffer.format(digits),
    };
    let zeros = text.bytes().rev().take(scale).take_while(|digit| *digit == b'0').count();
    let (text, scale) = (&text[..text.len() - zeros], scale - zeros);
    if scale == 0 {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let whole = text.len().saturating_sub(scale);
    out.extend_from_slice(if whole == 0 { b"0" } else { &text.as_bytes()[..whole] });
    out.push(b'.');
    out.resize(out.len() + scale.saturating_sub(text.len()), b'0');
    out.extend_from_slice(&text.as_bytes()[whole..]);
}

/// An i64 holds all numbers of so many digits.
const SHORT: usize = 18;

fn power(digits: usize) -> i128 {
    (0..digits).fold(1, |power, _| power * 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(unscaled: i128, scale: u8) -> String {
        let mut out = Vec::new();
        write(unscaled, scale, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_are_kept_exactly() {
        assert_eq!(parse("60.683466", 12, 6), Ok(60_683_466));
        assert_eq!(parse("-0.5", 12, 6), Ok(-500_000));
        assert_eq!(parse("+007", 12, 6), Ok(7_000_000));
        assert_eq!(parse("1.5000000000", 12, 6), Ok(1_500_000));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_rounded() {
        assert_eq!(parse("1.1234567", 12, 6), Err(Reason::DecimalScale { scale: 6 }));
        assert_eq!(parse("1234567", 12, 6), Err(Reason::DecimalPrecision { digits: 6 }));
        for text in
            ["NaN", "inf", "1e20", "1E2", "", "-", ".", ".5", "5.", "1,5", " 1", "1 ", "0x1", "1.2.3", "--1"]
        {
            assert_eq!(parse(text, 12, 6), Err(Reason::NotDecimal), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_printed_without_trailing_zeros() {
        assert_eq!(print(66_343_470, 6), "66.34347");
        assert_eq!(print(60_000_000, 6), "60");
        assert_eq!(print(5, 6), "0.000005");
        assert_eq!(print(-500_000, 6), "-0.5");
        assert_eq!(print(0, 6), "0");
        assert_eq!(print(10i128.pow(38) - 1, 0), "9".repeat(38));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back_as_the_same_number(unscaled in -10i128.pow(37)..10i128.pow(37), scale in 0u8..=30) {
            prop_assert_eq!(parse(&print(unscaled, scale), 38, scale.max(1)), Ok(unscaled * if scale == 0 { 10 } else { 1 }));
        }
    }
}
