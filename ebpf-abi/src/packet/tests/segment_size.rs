use super::*;

/// A SYN with these options, which must be a multiple of four bytes.
fn opening(options: &[u8]) -> Vec<u8> {
    let mut frame = ipv4(TCP, 0, 0);
    let data_offset = ETHERNET_LEN + 20 + 12;
    frame[data_offset] = (((20 + options.len()) / 4) << 4) as u8;
    frame.extend(options);
    let total_len = (frame.len() - ETHERNET_LEN) as u16;
    frame[ETHERNET_LEN + 2..ETHERNET_LEN + 4].copy_from_slice(&total_len.to_be_bytes());
    frame
}

/// Where behind the TCP header a size is found, and which.
fn offered(bytes: &[u8]) -> Option<(usize, u16)> {
    let packet = parsed4(bytes);
    let exact: std::boxed::Box<[u8]> = bytes.into();
    max_segment_size(&Frame::<ETHERNET_LEN>::from_bytes(&exact), &packet).map(|found| {
        (
            usize::from(found.offset) - ETHERNET_LEN - 40,
            found.size.get(),
        )
    })
}

#[test]
fn a_segment_size_is_found_wherever_it_stands() {
    const SIZE: [u8; 4] = [2, 4, 0x05, 0xb4];
    let after = |before: &[u8]| offered(&opening(&[before, &SIZE].concat()));
    assert_eq!(after(&[]), Some((2, 1460)));
    // What Linux sends.
    let linux = [
        &SIZE[..],
        &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
    ]
    .concat();
    assert_eq!(offered(&opening(&linux)), Some((2, 1460)));
    assert_eq!(after(&[1, 1, 1, 1]), Some((6, 1460)));
    assert_eq!(after(&[1, 3, 3, 7]), Some((6, 1460)));
    let last = [[4, 2, 8, 10].as_slice(), &[9; 8], &[254, 24], &[9; 22]].concat();
    assert_eq!(after(&last), Some((38, 1460)));
}

#[test]
fn a_segment_size_is_not_read_out_of_anything_else() {
    for options in [
        &[][..],
        &[1, 1, 1, 0],
        // Behind the end of the list.
        &[0, 0, 0, 0, 2, 4, 0x05, 0xb4],
        // Lengths of nothing, of the kind alone, and beyond the header.
        &[9, 0, 2, 4, 0x05, 0xb4, 0, 0],
        &[9, 1, 2, 4, 0x05, 0xb4, 0, 0],
        &[9, 64, 2, 4, 0x05, 0xb4, 0, 0],
        &[9, 255, 2, 4, 0x05, 0xb4, 0, 0],
        &[1, 2, 4, 0x05],
        // Other lengths than it has.
        &[2, 3, 0x05, 0],
        &[2, 8, 0x05, 0xb4, 0, 0, 0, 0],
        // More options than there is patience for.
        &[1; 36],
    ] {
        assert_eq!(offered(&opening(options)), None, "{options:?}");
    }
    let mut established = opening(&[2, 4, 0x05, 0xb4]);
    established[ETHERNET_LEN + 20 + 13] = tcp::ACK;
    assert_eq!(offered(&established), None);
    // The frame ends within the size.
    let mut cut = opening(&[2, 4, 0x05, 0xb4]);
    cut.truncate(cut.len() - 1);
    let whole = opening(&[2, 4, 0x05, 0xb4]);
    let packet = parsed4(&whole);
    assert_eq!(
        max_segment_size(&Frame::<ETHERNET_LEN>::from_bytes(&cut), &packet),
        None
    );
}
