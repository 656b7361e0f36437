package pruntime

import (
	"crypto/rand"
	"slices"
	"time"

	"github.com/phala-go/phala/pruntime/keyring"
)

// sessions are the EcdhKeys that clients and gatekeepers seal to, by their public keys: the
// keyring has the secret ones. A key is made at each start and each interval, announced on
// the chain, and used until the chain has the next one. No key is ever written to disk.
type sessions struct {
	ring      *keyring.Ring
	keys      [][32]byte // newest last; at most two, as in the keyring
	made      time.Time
	onChain   [32]byte
	announced bool // the newest key was pushed, or is part of a registration
	pushed    time.Time
	wait      time.Duration // after pushed, before it is announced again
	patience  time.Duration // how long a session may be without keys
}

func (s *sessions) start(now time.Time) error {
	k, err := s.ring.NewSession()
	if err != nil {
		return err
	}
	s.keys = append(s.keys, k)
	if len(s.keys) > 2 {
		s.keys = s.keys[1:]
	}
	s.made, s.announced, s.pushed, s.wait = now, false, time.Time{}, 0
	return nil
}

func (s *sessions) current() [32]byte { return s.keys[len(s.keys)-1] }

// renewed returns the session for a registration: a new one when the chain has the
// current one, else the one that it does not have yet, so that whoever asks again and
// again does not push the one in use out.
func (s *sessions) renewed(now time.Time, retry time.Duration) [32]byte {
	if s.onChain == s.current() && s.start(now) == nil {
		// The registration announces it; if that does not arrive, announce does.
		s.announced, s.pushed, s.wait = true, now, retry
	}
	return s.current()
}

// seen notes which key the chain has. Once it has the newest, older ones are erased.
func (s *sessions) seen(key [32]byte) error {
	s.onChain = key
	if s.current() != key {
		return nil
	}
	s.announced = true
	if len(s.keys) == 1 {
		return nil
	}
	s.keys = s.keys[len(s.keys)-1:]
	return s.ring.EndSessions(key)
}

// starved makes a new session when no keys came to this one, after retry, then after twice
// as long, and so on: the gatekeepers were away for too long to believe the block that it
// names.
func (s *sessions) starved(now time.Time, retry time.Duration) {
	s.patience = max(s.patience, retry)
	if s.onChain == s.current() && now.Sub(s.made) > s.patience && s.start(now) == nil {
		s.patience *= 2
	}
}

// live reports whether the chain has one of the keys.
func (s *sessions) live() bool { return slices.Contains(s.keys, s.onChain) }

// announce returns the key to announce, and makes a new one when the interval is over.
// The chain refuses a session that names an old block, and a relayer may lose it: what
// does not arrive is announced again after retry, then after twice as long, and so on,
// because it may also be that another instance of this identity took over, and two
// that take turns serve nobody.
func (s *sessions) announce(now time.Time, interval, retry time.Duration) (key [32]byte, due bool) {
	if s.announced && now.Sub(s.made) > interval {
		if err := s.start(now); err != nil {
			return key, false // tried again at the next message
		}
	}
	if s.announced && (s.onChain == s.current() || s.pushed.IsZero() || now.Sub(s.pushed) < s.wait) {
		return key, false
	}
	s.announced, s.pushed, s.wait = true, now, max(retry, 2*s.wait)
	return s.current(), true
}

// lease says whether the enclave may answer: a challenge that it sent came back
// through the chain recently. The time counts from the sending, on the host's clock:
// a frozen enclave wakes up with its lease over, if the clock went on. Whether a host can
// hold that clock back depends on the TEE and the guest's settings; nothing here knows.
//
// It counts once the state has come to where the challenge came back, so that what
// answers is as fresh as the lease says: a host can bring much at once, and commands
// take their time.
type lease struct {
	nonce   [32]byte
	sent    time.Time
	pending bool
	back    []echo    // not yet reached, by height; the last one is the newest
	since   time.Time // sending time of the newest challenge that counts
}

// An echo is a challenge that came back.
type echo struct {
	sent   time.Time
	height uint64
}

// maxEchoes is more than a lease has challenges.
const maxEchoes = 8

// challenge returns a nonce to send when a third of the lease is over, and again when
// an answer does not come.
func (l *lease) challenge(now time.Time, length time.Duration) (nonce [32]byte, due bool) {
	if l.pending && now.Sub(l.sent) < length/3 {
		return nonce, false
	}
	last := l.since
	if n := len(l.back); n > 0 {
		last = l.back[n-1].sent
	}
	if !l.pending && !last.IsZero() && now.Sub(last) < length/3 {
		return nonce, false
	}
	if _, err := rand.Read(l.nonce[:]); err != nil {
		return nonce, false
	}
	l.sent, l.pending = now, true
	return l.nonce, true
}

func (l *lease) echoed(nonce [32]byte, height uint64) {
	if !l.pending || nonce != l.nonce {
		return
	}
	l.pending = false
	if l.back = append(l.back, echo{l.sent, height}); len(l.back) > maxEchoes {
		l.back = l.back[1:]
	}
}

// reached notes that the state holds everything that was delivered below height next.
func (l *lease) reached(next uint64) {
	for len(l.back) > 0 && l.back[0].height < next {
		l.since, l.back = l.back[0].sent, l.back[1:]
	}
}

func (l *lease) valid(now time.Time, length time.Duration) bool {
	return !l.since.IsZero() && now.Sub(l.since) < length
}
