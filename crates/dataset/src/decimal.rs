//! Exact decimal numbers, which are never rounded.

use crate::reject_reason::RejectReason;

/// Parses a number and multiplies it by ten to the power of `scale`.
pub(crate) fn parse(text: &str, precision: u8, scale: u8) -> Result<i128, RejectReason> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    // A point needs a digit on either side: `5.` is more likely a truncated field than a number.
    let lacks_digits = whole.is_empty() || (point.is_some() && fraction.is_empty());
    if lacks_digits || !all_digits(whole) || !all_digits(fraction) {
        return Err(RejectReason::NotDecimal);
    }
    let whole = &whole[whole.iter().take_while(|digit| **digit == b'0').count()..];
    if whole.len() > usize::from(precision - scale) {
        return Err(RejectReason::DecimalPrecision { digits: precision - scale });
    }
    let trailing_zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
    let fraction = &fraction[..fraction.len() - trailing_zeros];
    if fraction.len() > usize::from(scale) {
        return Err(RejectReason::DecimalScale { scale });
    }
    let missing_digits = usize::from(scale) - fraction.len();
    let scaled = if whole.len() + usize::from(scale) <= I64_DIGITS {
        // Nearly every number is this short, and arithmetic on 128 bits is slow.
        let append = |number: i64, digit: &u8| number * 10 + i64::from(digit - b'0');
        let number = fraction.iter().fold(whole.iter().fold(0, append), append);
        i128::from((0..missing_digits).fold(number, |number, _| number * 10))
    } else {
        // A precision of at most 38 digits fits into an i128.
        let append = |number: i128, digit: &u8| number * 10 + i128::from(digit - b'0');
        let number = fraction.iter().fold(whole.iter().fold(0, append), append);
        (0..missing_digits).fold(number, |number, _| number * 10)
    };
    Ok(if is_negative { -scaled } else { scaled })
}

/// Appends the number, without trailing zeros after the point and without the point if no digit follows it.
pub fn write(scaled: i128, scale: u8, out: &mut Vec<u8>) {
    let (magnitude, scale) = (scaled.unsigned_abs(), usize::from(scale));
    if magnitude == 0 {
        return out.push(b'0');
    }
    if scaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = match u64::try_from(magnitude) {
        // Nearly every number is this short, and dividing 128 bits is slow.
        Ok(short) => buffer.format(short),
        Err(_) => buffer.format(magnitude),
    };
    let trailing_zeros = digits.bytes().rev().take(scale).take_while(|digit| *digit == b'0').count();
    let (digits, scale) = (&digits.as_bytes()[..digits.len() - trailing_zeros], scale - trailing_zeros);
    if scale == 0 {
        out.extend_from_slice(digits);
        return;
    }
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    out.push(b'.');
    out.resize(out.len() + scale - fraction.len(), b'0');
    out.extend_from_slice(fraction);
}

/// An i64 holds every number of this many digits.
const I64_DIGITS: usize = 18;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(scaled: i128, scale: u8) -> String {
        let mut out = Vec::new();
        write(scaled, scale, &mut out);
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
    fn a_number_that_does_not_fit_is_rejected_and_never_rounded() {
        assert_eq!(parse("1.1234567", 12, 6), Err(RejectReason::DecimalScale { scale: 6 }));
        assert_eq!(parse("1234567", 12, 6), Err(RejectReason::DecimalPrecision { digits: 6 }));
        for text in
            ["NaN", "inf", "1e20", "1E2", "", "-", ".", ".5", "5.", "1,5", " 1", "1 ", "0x1", "1.2.3", "--1"]
        {
            assert_eq!(parse(text, 12, 6), Err(RejectReason::NotDecimal), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_without_trailing_zeros() {
        assert_eq!(written(66_343_470, 6), "66.34347");
        assert_eq!(written(60_000_000, 6), "60");
        assert_eq!(written(5, 6), "0.000005");
        assert_eq!(written(-500_000, 6), "-0.5");
        assert_eq!(written(0, 6), "0");
        assert_eq!(written(10i128.pow(38) - 1, 0), "9".repeat(38));
    }

    proptest! {
        #[test]
        fn a_written_number_is_parsed_as_the_same_number(scaled in -10i128.pow(37)..10i128.pow(37), scale in 0u8..=30) {
            prop_assert_eq!(parse(&written(scaled, scale), 38, scale), Ok(scaled));
        }
    }
}
