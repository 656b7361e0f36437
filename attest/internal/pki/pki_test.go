package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		panic(err)
	}
	return k
})

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(0x1234), Subject: pkix.Name{CommonName: "name", Organization: []string{"org"}},
		NotBefore: now, NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func issue(t testing.TB, tpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestAgainstStandardLibrary: what both parse, both read alike.
func TestAgainstStandardLibrary(t *testing.T) {
	for _, c := range []struct {
		name string
		key  crypto.Signer
		alg  x509.SignatureAlgorithm
	}{
		{"P-256", newKey(elliptic.P256()), x509.ECDSAWithSHA256},
		{"P-384", newKey(elliptic.P384()), x509.ECDSAWithSHA384},
		{"RSA-4096 PSS", rsaKey(), x509.SHA384WithRSAPSS},
	} {
		t.Run(c.name, func(t *testing.T) {
			tpl := template()
			tpl.SignatureAlgorithm = c.alg
			tpl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, Value: []byte{1, 2}}}
			der := issue(t, tpl, tpl, c.key.Public(), c.key)
			want, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.RawIssuer, want.RawIssuer) || !bytes.Equal(got.RawSubject, want.RawSubject) ||
				got.CommonName != want.Subject.CommonName || got.Organization != "org" ||
				!got.NotBefore.Equal(want.NotBefore) || !got.NotAfter.Equal(want.NotAfter) ||
				got.IsCA != want.IsCA || got.MaxPath != want.MaxPathLen ||
				new(big.Int).SetBytes(got.Serial).Cmp(want.SerialNumber) != 0 ||
				got.KeyUsage != UsageCertSign|UsageCRLSign || !bytes.Equal(got.subjectKeyID, want.SubjectKeyId) {
				t.Fatalf("%+v", got)
			}
			if !bytes.Equal(got.Extensions[EncodeOID(1, 2, 840, 113741, 1, 13, 1)], []byte{1, 2}) {
				t.Fatal("extension lost")
			}
			if err := got.IssuedBy(got); err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{20, len(der) - 3} { // the signed part, the signature
				bad := bytes.Clone(der)
				bad[at] ^= 1
				if c, err := ParseCertificate(bad); err == nil && c.IssuedBy(got) == nil {
					t.Fatalf("byte %d changed, still issued by its issuer", at)
				}
			}
			list := &x509.RevocationList{
				Number: big.NewInt(9), ThisUpdate: now, NextUpdate: now.Add(time.Hour), SignatureAlgorithm: c.alg,
				RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(300), RevocationTime: now, ReasonCode: 1}},
			}
			crlDER, err := x509.CreateRevocationList(rand.Reader, list, want, c.key)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := ParseCRL(crlDER)
			if err != nil {
				t.Fatal(err)
			}
			if err := crl.IssuedBy(got); err != nil {
				t.Fatal(err)
			}
			if !crl.Revokes([]byte{1, 44}) || crl.Revokes([]byte{1, 45}) || crl.Len() != 1 || crl.Number.Int64() != 9 {
				t.Fatalf("%+v", crl)
			}
			if !crl.ValidAt(now) || !crl.ValidAt(now.Add(time.Hour)) || crl.ValidAt(now.Add(time.Hour+1)) || crl.ValidAt(now.Add(-1)) {
				t.Fatal("validity")
			}
			for i := range der {
				if _, err := ParseCertificate(der[:i]); err == nil {
					t.Fatalf("certificate cut at %d accepted", i)
				}
			}
			for i := range crlDER {
				if _, err := ParseCRL(crlDER[:i]); err == nil {
					t.Fatalf("CRL cut at %d accepted", i)
				}
			}
			if _, err := ParseCertificate(append(bytes.Clone(der), 0)); err == nil {
				t.Fatal("trailing byte accepted")
			}
		})
	}
}

func TestIssuedByRefuses(t *testing.T) {
	key, other := newKey(elliptic.P256()), newKey(elliptic.P256())
	root := template()
	rootDER := issue(t, root, root, key.Public(), key)
	leaf := template()
	leaf.Subject.CommonName = "leaf"
	leafDER := issue(t, leaf, root, other.Public(), key)
	for _, c := range []struct {
		name, want string
		edit       func(*x509.Certificate)
		key        *ecdsa.PrivateKey
	}{
		{"right", "", func(*x509.Certificate) {}, key},
		{"not an authority", "not a certificate authority", func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, -1 }, key},
		{"may not certify", "may not sign certificates", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, key},
		{"another name", "name differs", func(c *x509.Certificate) { c.Subject.CommonName = "other" }, key},
		{"another key", "identifier differs", func(*x509.Certificate) {}, other},
		{"another key under the same identifier", "signature is wrong", func(c *x509.Certificate) {
			parsed, _ := x509.ParseCertificate(rootDER)
			c.SubjectKeyId = parsed.SubjectKeyId
		}, other},
	} {
		tpl := template()
		c.edit(tpl)
		ca, err := ParseCertificate(issue(t, tpl, tpl, c.key.Public(), c.key))
		if err != nil {
			t.Fatal(err)
		}
		l, err := ParseCertificate(leafDER)
		if err != nil {
			t.Fatal(err)
		}
		// Without an authority key identifier in the leaf nothing but the
		// signature tells, so the leaf here has one.
		parsedRoot, _ := x509.ParseCertificate(rootDER)
		l.authorityKeyID = parsedRoot.SubjectKeyId
		err = l.IssuedBy(ca)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// TestListIssuedByRefuses: a revocation list counts by who signed it, and only of who may.
func TestListIssuedByRefuses(t *testing.T) {
	key, other := newKey(elliptic.P256()), newKey(elliptic.P256())
	root, err := x509.ParseCertificate(issue(t, template(), template(), key.Public(), key))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, root, key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseCRL(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		edit       func(*x509.Certificate)
		key        *ecdsa.PrivateKey
	}{
		{"right", "", func(*x509.Certificate) {}, key},
		{"not an authority", "may not sign revocation lists", func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, -1 }, key},
		{"may not revoke", "may not sign revocation lists", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }, key},
		{"another name", "name differs", func(c *x509.Certificate) { c.Subject.CommonName = "other" }, key},
		{"another key", "identifier differs", func(*x509.Certificate) {}, other},
		{"another key under the same identifier", "signature is wrong", func(c *x509.Certificate) { c.SubjectKeyId = root.SubjectKeyId }, other},
	} {
		tpl := template()
		c.edit(tpl)
		ca, err := ParseCertificate(issue(t, tpl, tpl, c.key.Public(), c.key))
		if err != nil {
			t.Fatal(err)
		}
		err = list.IssuedBy(ca)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// TestAlgorithmsDiffer: the algorithm outside of what is signed is the one inside.
func TestAlgorithmsDiffer(t *testing.T) {
	key := newKey(elliptic.P256())
	der := issue(t, template(), template(), key.Public(), key)
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, root, key)
	if err != nil {
		t.Fatal(err)
	}
	// Outside it lies last, and ECDSA with SHA-384 differs in the last byte.
	change := func(der []byte) []byte {
		at := bytes.LastIndex(der, []byte(oidECDSASHA256)) + len(oidECDSASHA256) - 1
		der[at]++
		return der
	}
	if _, err := ParseCertificate(change(der)); err == nil || !strings.Contains(err.Error(), "algorithms differ") {
		t.Errorf("certificate: %v", err)
	}
	if _, err := ParseCRL(change(list)); err == nil || !strings.Contains(err.Error(), "algorithms differ") {
		t.Errorf("revocation list: %v", err)
	}
}

// TestExtensionsRefused: of a certificate and of a list.
func TestExtensionsRefused(t *testing.T) {
	key := newKey(elliptic.P256())
	root, err := x509.ParseCertificate(issue(t, template(), template(), key.Public(), key))
	if err != nil {
		t.Fatal(err)
	}
	unknown := func(critical bool) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 9, 7}, Critical: critical, Value: []byte{5, 0}}
	}
	for _, c := range []struct {
		name        string
		list, entry []pkix.Extension
		ok          bool
	}{
		{"unknown", []pkix.Extension{unknown(false)}, []pkix.Extension{unknown(false)}, true},
		{"critical", []pkix.Extension{unknown(true)}, nil, false},
		{"critical in an entry", nil, []pkix.Extension{unknown(true)}, false},
		{"repeated", []pkix.Extension{unknown(false), unknown(false)}, nil, false},
		{"repeated in an entry", nil, []pkix.Extension{unknown(false), unknown(false)}, false},
	} {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour), ExtraExtensions: c.list,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: now, ExtraExtensions: c.entry}}}, root, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCRL(der); (err == nil) != c.ok {
			t.Errorf("list, %s: %v", c.name, err)
		}
	}
	// Go makes no certificate with two of one kind; the parser of extensions is the same.
	list, err := asn1.Marshal([]pkix.Extension{unknown(false), unknown(false)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseExtensionList(list); err == nil {
		t.Error("certificate, repeated: accepted")
	}
}

func TestCertificateRefused(t *testing.T) {
	p256 := newKey(elliptic.P256())
	ext := func(arc int, critical bool) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 9, arc}, Critical: critical, Value: []byte{5, 0}}
	}
	for _, c := range []struct {
		name string
		key  crypto.Signer
		edit func(*x509.Certificate)
	}{
		{"unknown critical extension", p256, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{ext(1, true)} }},
		{"P-521", newKey(elliptic.P521()), func(*x509.Certificate) {}},
		{"SHA-512", p256, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA512 }},
		{"RSA PKCS #1", rsaKey(), func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }},
		{"RSA PSS with SHA-256", rsaKey(), func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }},
		{"too large", p256, func(c *x509.Certificate) {
			e := ext(1, false)
			e.Value = make([]byte, MaxCertificate)
			c.ExtraExtensions = []pkix.Extension{e}
		}},
	} {
		tpl := template()
		c.edit(tpl)
		if _, err := ParseCertificate(issue(t, tpl, tpl, c.key.Public(), c.key)); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
	// A leaf signed by P-384 with a P-256 issuer's name: key and algorithm
	// must suit each other.
	tpl := template()
	der := issue(t, tpl, tpl, p256.Public(), p256)
	c, err := ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.signed.algorithm = ECDSAWithSHA384
	if err := c.IssuedBy(c); err == nil {
		t.Error("P-384 algorithm with a P-256 key accepted")
	}
}

func TestDER(t *testing.T) {
	for _, c := range []struct {
		name string
		der  []byte
		read func(*DER)
		ok   bool
	}{
		{"integer", []byte{2, 1, 5}, func(d *DER) { d.Integer(5) }, true},
		{"integer above the limit", []byte{2, 1, 6}, func(d *DER) { d.Integer(5) }, false},
		{"negative integer", []byte{2, 1, 0x80}, func(d *DER) { d.Integer(255) }, false},
		{"integer padded with zero", []byte{2, 2, 0, 5}, func(d *DER) { d.Integer(255) }, false},
		{"integer padded with ones", []byte{2, 2, 0xff, 0x85}, func(d *DER) { d.IntegerBytes() }, false},
		{"empty integer", []byte{2, 0}, func(d *DER) { d.IntegerBytes() }, false},
		{"integer of six bytes", []byte{2, 6, 1, 0, 0, 0, 0, 0}, func(d *DER) { d.Integer(1) }, false},
		{"long length not needed", []byte{2, 0x81, 1, 5}, func(d *DER) { d.Integer(5) }, false},
		{"length with leading zero", append([]byte{4, 0x82, 0, 0x80}, make([]byte, 128)...), func(d *DER) { d.Octets() }, false},
		{"long length", append([]byte{4, 0x81, 0x80}, make([]byte, 128)...), func(d *DER) { d.Octets() }, true},
		{"indefinite length", []byte{0x30, 0x80, 0, 0}, func(d *DER) { d.Sequence() }, false},
		{"length of four bytes", []byte{4, 0x84, 0, 0, 0, 1, 1}, func(d *DER) { d.Octets() }, false},
		{"length past the end", []byte{4, 2, 1}, func(d *DER) { d.Octets() }, false},
		{"long tag", []byte{0x1f, 1, 0}, func(d *DER) { d.Any() }, false},
		{"wrong tag", []byte{4, 1, 0}, func(d *DER) { d.Integer(9) }, false},
		{"bytes left", []byte{2, 1, 5, 0}, func(d *DER) { d.Integer(5) }, false},
		{"true", []byte{1, 1, 0xff}, func(d *DER) { d.Bool() }, true},
		{"almost true", []byte{1, 1, 1}, func(d *DER) { d.Bool() }, false},
		{"bit string with unused bits", []byte{3, 2, 1, 0}, func(d *DER) { d.BitString() }, false},
		{"unfinished identifier", []byte{6, 1, 0x80}, func(d *DER) { d.OID() }, false},
		{"UTC time", []byte("\x17\x0d261120000000Z"), func(d *DER) { d.Time() }, true},
		{"UTC time of the 30th of February", []byte("\x17\x0d260230000000Z"), func(d *DER) { d.Time() }, false},
		{"UTC time without seconds", []byte("\x17\x0b2611200000Z"), func(d *DER) { d.Time() }, false},
		{"UTC time with offset", []byte("\x17\x11261120000000+0100"), func(d *DER) { d.Time() }, false},
		{"generalised time", []byte("\x18\x0f20491231235959Z"), func(d *DER) { d.Time() }, true},
		{"generalised time with fraction", []byte("\x18\x1120491231235959.5Z"), func(d *DER) { d.Time() }, false},
	} {
		d := NewDER(c.der)
		c.read(d)
		if (d.Err() == nil) != c.ok {
			t.Errorf("%s: %v", c.name, d.Err())
		}
	}
	if y := NewDER([]byte("\x17\x0d500101000000Z")).Time().Year(); y != 1950 {
		t.Errorf("two-digit year 50 is %d", y)
	}
}

func TestEncodeOID(t *testing.T) {
	for _, arcs := range [][]uint32{{1, 2, 840, 113741, 1, 13, 1}, {2, 5, 29, 15}, {1, 3, 6, 1, 4, 1, 3704, 1, 3, 1}, {2, 16, 840, 1, 101, 3, 4, 2, 2}} {
		oid := make(asn1.ObjectIdentifier, len(arcs))
		for i, a := range arcs {
			oid[i] = int(a)
		}
		want, err := asn1.Marshal(oid)
		if err != nil {
			t.Fatal(err)
		}
		if got := EncodeOID(arcs...); got != string(want[2:]) {
			t.Errorf("%v: %x, want %x", arcs, got, want[2:])
		}
	}
}

func FuzzCertificate(f *testing.F) {
	key := newKey(elliptic.P256())
	tpl := template()
	f.Add(issue(f, tpl, tpl, key.Public(), key))
	pss := template()
	pss.SignatureAlgorithm = x509.SHA384WithRSAPSS
	f.Add(issue(f, pss, pss, rsaKey().Public(), rsaKey()))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCertificate(b)
		if err != nil {
			return
		}
		// Ours must not be the laxer one in anything that is signed; a
		// certificate that nobody signed proves nothing either way.
		if c.IssuedBy(c) == nil {
			if _, err := x509.ParseCertificate(b); err != nil {
				t.Fatalf("accepted, but crypto/x509 refuses: %v", err)
			}
		}
	})
}

func FuzzCRL(f *testing.F) {
	key := newKey(elliptic.P256())
	tpl := template()
	ca, err := x509.ParseCertificate(issue(f, tpl, tpl, key.Public(), key))
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: now}}}, ca, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		crl, err := ParseCRL(b)
		if err == nil && (crl.Number == nil || crl.Len() > len(b)) {
			t.Fatalf("%+v", crl)
		}
	})
}
