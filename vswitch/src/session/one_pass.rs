//! AEGIS-128L from one place to another: libaegis does it in one pass, its crate only in place or into memory that it allocates.
//!
//! Copying a datagram's plaintext to where it is sealed, and sealing it there, takes a quarter more time than sealing it from where it is
//! (`docs/performance.md`). So the library's own function is called; the crate `aegis` brings and links it.

use aegis::aegis128l::{Aegis128L, Key, Nonce};

use crate::wire::TAG_BYTES;

#[expect(unsafe_code, reason = "libaegis' interface, aegis128l.h")]
// SAFETY: as libaegis declares it.
unsafe extern "C" {
    /// Encrypts `text_bytes` from `text` to as many at `sealed`, and writes a tag of `tag_bytes` (16 or 32) to `tag`; always 0.
    fn aegis128l_encrypt_detached(
        sealed: *mut u8,
        tag: *mut u8,
        tag_bytes: usize,
        text: *const u8,
        text_bytes: usize,
        associated: *const u8,
        associated_bytes: usize,
        nonce: *const u8,
        key: *const u8,
    ) -> std::ffi::c_int;
}

/// Has the library choose what it runs on this processor; without it [`seal_from`] is right, and slow.
pub(super) fn prepare() {
    // The crate does it once, whenever it makes a state.
    let _state = Aegis128L::<TAG_BYTES>::new(&[0; 16], &[0; 16]);
}

/// Seals `text` into `sealed`, which has room for it and its tag exactly.
#[inline]
pub(super) fn seal_from(key: &Key, nonce: &Nonce, text: &[u8], sealed: &mut [u8]) {
    assert_eq!(sealed.len(), text.len() + TAG_BYTES, "room for the text and its tag");
    let (body, tag) = sealed.split_at_mut(text.len());
    #[expect(unsafe_code, reason = "a call of a C function")]
    // SAFETY: the slices are apart from each other, since two of them are exclusive, and as long as is said; there is no associated
    // data, of which the library reads no byte; nonce and key have the 16 bytes that it reads.
    let done = unsafe {
        aegis128l_encrypt_detached(
            body.as_mut_ptr(),
            tag.as_mut_ptr(),
            TAG_BYTES,
            text.as_ptr(),
            text.len(),
            [0_u8; 0].as_ptr(),
            0,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
    debug_assert_eq!(done, 0, "it has no way to fail");
}
