"""Decoders in this process: of the libraries that the fast programs are made of, without a pipe in between.

A disk is mostly holes, and to bring its zeros through a pipe takes as long as to unpack them. A library that is not
there, or is another than is known here, is no error: :mod:`ebspub.populate.imaging.streams` has programs, too.

Interfaces: `zstd.h` (its stable part), `lzma/base.h` and `lzma/container.h` (5.4 and later), `isa-l/igzip_lib.h` (2).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Final, Protocol

from ebspub.populate.imaging.refusal import Refusal

try:
    import ctypes

    _POINTERS = ctypes.sizeof(ctypes.c_void_p)
except ImportError:  # a small Python may lack it
    _POINTERS = 0

_SIZE_T: Final = 8
#: Packed bytes that zlib gets at a time.
_SOME: Final = 64 * 1024
#: The most that zstd may look back, as `zstd --long=31`.
_WINDOW_LOG: Final = 31
_ZSTD_WINDOW_LOG_MAX: Final = 100
#: Of the memory, what liblzma's threads may take before they are fewer: a quarter, as with `xz -T0`.
_QUARTER: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


class Engine(Protocol):
    """A decoder that is given packed bytes and room for what is in them."""

    #: What it unpacks.
    name: str
    #: Whether what it was given so far is whole: nothing more need come.
    whole: bool

    def step(self, packed: memoryview, room: memoryview, *, last: bool) -> tuple[int, int]:
        """Unpack some; return how many bytes were taken and given, none of both where that takes more of them.

        ``last``: nothing comes after ``packed``. Raises :class:`Refusal` for what is damaged.
        """

    def close(self) -> None:
        """Let go of memory and threads."""


def engine(content: str, threads: int) -> Engine | None:
    """Return the best decoder of a library for ``content``, of :data:`formats.COMPRESSED`; None where there is none.

    ``threads``: the most that it may start, where its format can be unpacked by several.
    """
    fallback = Zlib() if content == "gzip" else None
    if _POINTERS != _SIZE_T or content not in _MAKERS:
        return fallback
    try:
        return _MAKERS[content](threads)
    except (OSError, AttributeError, Refusal, _OtherError):
        return fallback


class _OtherError(Exception):
    """A library that has the name but is another."""


def _at(view: memoryview) -> int:
    """Return the address of the bytes of ``view``, which must outlive its use."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view else 0


def _damaged(why: str) -> Refusal:
    return Refusal("bad-image", f"the artefact cannot be unpacked: {why}")


class _Zstd:
    name = "zstd"

    def __init__(self, _threads: int) -> None:
        class Buffer(ctypes.Structure):
            _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))

        self._library = library = ctypes.CDLL("libzstd.so.1")
        library.ZSTD_createDCtx.restype = ctypes.c_void_p
        library.ZSTD_DCtx_setParameter.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        library.ZSTD_DCtx_setParameter.restype = ctypes.c_size_t
        pointer = ctypes.POINTER(Buffer)
        library.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, pointer, pointer)
        library.ZSTD_decompressStream.restype = ctypes.c_size_t
        library.ZSTD_isError.argtypes = library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
        library.ZSTD_getErrorName.restype = ctypes.c_char_p
        library.ZSTD_freeDCtx.argtypes = (ctypes.c_void_p,)
        self._in, self._out = Buffer(), Buffer()
        self._context = library.ZSTD_createDCtx()
        if library.ZSTD_isError(library.ZSTD_DCtx_setParameter(self._context, _ZSTD_WINDOW_LOG_MAX, _WINDOW_LOG)):
            raise _OtherError
        self.whole = False

    def step(self, packed: memoryview, room: memoryview, *, last: bool) -> tuple[int, int]:  # noqa: ARG002 - see Engine
        if self.whole and not packed:
            return 0, 0
        given, taken = self._out, self._in
        taken.at, taken.size, taken.pos = _at(packed), len(packed), 0
        given.at, given.size, given.pos = _at(room), len(room), 0
        result = self._library.ZSTD_decompressStream(self._context, ctypes.byref(given), ctypes.byref(taken))
        if self._library.ZSTD_isError(result):
            raise _damaged(f"zstd data: {self._library.ZSTD_getErrorName(result).decode()}")
        self.whole = result == 0
        return taken.pos, given.pos

    def close(self) -> None:
        self._library.ZSTD_freeDCtx(self._context)
        self._context = None


class _Xz:
    name = "xz"
    _CONCATENATED, _TELL_UNSUPPORTED_CHECK = 0x08, 0x02
    _RUN, _FINISH = 0, 3
    _OK, _STREAM_END, _BUF_ERROR = 0, 1, 10
    _SAID: Final = {3: "it has a check that is not known", 5: "it takes too much memory", 6: "it takes too much memory",
                    7: "it is none", 8: "it has options that are not known", 9: "it is damaged"}  # fmt: skip

    def __init__(self, threads: int) -> None:
        word, size, pointer = ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p

        class Coder(ctypes.Structure):
            _fields_ = (
                *(("next_in", pointer), ("avail_in", size), ("total_in", ctypes.c_uint64)),
                *(("next_out", pointer), ("avail_out", size), ("total_out", ctypes.c_uint64)),
                *(("allocator", pointer), ("internal", pointer), ("reserved", ctypes.c_uint64 * 16)),
            )

        class Options(ctypes.Structure):
            _fields_ = (
                *(("flags", word), ("threads", word), ("block_size", ctypes.c_uint64), ("timeout", word)),
                *(("preset", word), ("filters", pointer), ("reserved", word * 8)),
                *(("memlimit_threading", ctypes.c_uint64), ("memlimit_stop", ctypes.c_uint64)),
                *(("more", ctypes.c_uint64 * 16),),
            )

        self._library = library = ctypes.CDLL("liblzma.so.5")
        # A library before 5.4 has no such decoder: AttributeError.
        library.lzma_stream_decoder_mt.argtypes = (pointer, pointer)
        library.lzma_code.argtypes = (pointer, ctypes.c_int)
        library.lzma_end.argtypes = (pointer,)
        self._coder = Coder()
        options = Options(flags=self._CONCATENATED | self._TELL_UNSUPPORTED_CHECK, threads=threads)
        options.memlimit_threading, options.memlimit_stop = _QUARTER, 2**63
        if library.lzma_stream_decoder_mt(ctypes.byref(self._coder), ctypes.byref(options)) != self._OK:
            raise _OtherError
        self.whole = False

    def step(self, packed: memoryview, room: memoryview, *, last: bool) -> tuple[int, int]:
        if self.whole:
            return 0, 0
        coder = self._coder
        coder.next_in, coder.avail_in = _at(packed), len(packed)
        coder.next_out, coder.avail_out = _at(room), len(room)
        result = self._library.lzma_code(ctypes.byref(coder), self._FINISH if last else self._RUN)
        if result not in (self._OK, self._STREAM_END, self._BUF_ERROR):
            raise _damaged(f"xz data: {self._SAID.get(result, f'error {result}')}")
        self.whole = result == self._STREAM_END
        return len(packed) - coder.avail_in, len(room) - coder.avail_out

    def close(self) -> None:
        self._library.lzma_end(ctypes.byref(self._coder))


class _Isal:
    """Gzip: members one after the other, zeros after the last one are padding."""

    name = "gzip"
    #: sizeof(struct inflate_state) is about 88 KiB.
    _STATE: Final = 256 * 1024
    _GZIP: Final = 1
    _FINISHED: Final = 5
    #: Of its last result that is none of an error: it wants more input, or more room.
    _GOOD: Final = (0, 1, 2)

    def __init__(self, _threads: int) -> None:
        class State(ctypes.Structure):
            _fields_ = (
                *(("next_out", ctypes.c_void_p), ("avail_out", ctypes.c_uint32), ("total_out", ctypes.c_uint32)),
                *(("next_in", ctypes.c_void_p), ("read_in", ctypes.c_uint64), ("avail_in", ctypes.c_uint32)),
                ("read_in_length", ctypes.c_int32),
                # Tables for literals and lengths, and for distances.
                *(("large", ctypes.c_uint32 * 4096), ("large_long", ctypes.c_uint16 * 1264)),
                *(("small", ctypes.c_uint16 * 1024), ("small_long", ctypes.c_uint16 * 80)),
                *(("block_state", ctypes.c_int), ("dict_length", ctypes.c_uint32), ("bfinal", ctypes.c_uint32)),
                ("crc_flag", ctypes.c_uint32),
            )

        self._library = library = ctypes.CDLL("libisal.so.2")
        for function in (library.isal_inflate_init, library.isal_inflate_reset, library.isal_inflate):
            function.argtypes = (ctypes.c_void_p,)
        self._memory = ctypes.create_string_buffer(self._STATE)
        self._state = State.from_buffer(self._memory)
        self.whole = False
        self._begin()
        self._try_out()

    def step(self, packed: memoryview, room: memoryview, *, last: bool) -> tuple[int, int]:  # noqa: ARG002 - see Engine
        state = self._state
        if self.whole:
            rest = bytes(packed).lstrip(b"\0")
            if rest:
                self._library.isal_inflate_reset(self._memory)
                state.crc_flag = self._GZIP
                self.whole = False
            return len(packed) - len(rest), 0
        state.next_in, state.avail_in = _at(packed), len(packed)
        state.next_out, state.avail_out = _at(room), len(room)
        result = self._library.isal_inflate(self._memory)
        if result not in self._GOOD:
            raise _damaged(f"gzip data: error {result}")
        self.whole = state.block_state == self._FINISHED
        return len(packed) - state.avail_in, len(room) - state.avail_out

    def close(self) -> None:
        """Its memory is this process's."""

    def _begin(self) -> None:
        self._library.isal_inflate_init(self._memory)
        self._state.crc_flag = self._GZIP
        self.whole = False

    def _try_out(self) -> None:
        """See that the structure is as it is known here: what is sound comes out, and what is not is found out."""
        packer = zlib.compressobj(wbits=31)
        plain = bytes(range(256)) * 16
        packed = bytearray(packer.compress(plain) + packer.flush())
        room = bytearray(len(plain) + 1)
        if self._tried(packed, room) != (len(packed), len(plain)) or room[:-1] != plain or not self.whole:
            raise _OtherError
        self._begin()
        packed[-5] ^= 1  # of the checksum
        try:
            self._tried(packed, room)
        except Refusal:
            self._begin()
        else:
            raise _OtherError

    def _tried(self, packed: bytearray, room: bytearray) -> tuple[int, int]:
        return self.step(memoryview(packed), memoryview(room), last=True)


class Zlib:
    """Gzip by what every Python has. It is quicker than pigz and gzip are, which have two pipes beside it."""

    name = "gzip"

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)
        self.whole = False

    def step(self, packed: memoryview, room: memoryview, *, last: bool) -> tuple[int, int]:  # noqa: ARG002 - see Engine
        if self.whole:
            rest = bytes(packed).lstrip(b"\0")
            if rest:
                self._member = zlib.decompressobj(31)
                self.whole = False
            return len(packed) - len(rest), 0
        # What is not taken is copied.
        some = packed[:_SOME]
        try:
            out = self._member.decompress(some, len(room))
        except zlib.error as error:
            raise _damaged(f"gzip data: {error}") from error
        room[: len(out)] = out
        self.whole = self._member.eof
        left = self._member.unused_data if self.whole else self._member.unconsumed_tail
        return len(some) - len(left), len(out)

    def close(self) -> None:
        """It holds nothing."""


_MAKERS: Final[dict[str, Callable[[int], Engine]]] = {"gzip": _Isal, "zstd": _Zstd, "xz": _Xz}
