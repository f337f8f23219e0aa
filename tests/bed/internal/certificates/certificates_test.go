package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAServerCertificateHoldsForItsNamesAndAddressesOnly(t *testing.T) {
	authority, err := NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(Request{
		User: "kube-apiserver", Names: []string{"kubernetes.default"}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, pair)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	for name, wanted := range map[string]bool{"kubernetes.default": true, "10.96.0.1": true, "10.96.0.2": false, "elsewhere": false} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		if (err == nil) != wanted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAClientCertificateNamesUserAndGroupsAndServesNothing(t *testing.T) {
	authority, err := NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(Request{User: "system:node:node-0", Groups: []string{"system:nodes"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, pair)
	if leaf.Subject.CommonName != "system:node:node-0" || leaf.Subject.Organization[0] != "system:nodes" {
		t.Errorf("subject %v", leaf.Subject)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	for usage, wanted := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}})
		if (err == nil) != wanted {
			t.Errorf("usage %v: %v", usage, err)
		}
	}
}

func TestAKeyFileIsReadableByItsOwnerOnly(t *testing.T) {
	pair, err := NewServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "service-account")
	if err := pair.Write(base); err != nil {
		t.Fatal(err)
	}
	information, err := os.Stat(base + ".key")
	if err != nil {
		t.Fatal(err)
	}
	if information.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", information.Mode())
	}
}

func parse(t *testing.T, pair Pair) *x509.Certificate {
	t.Helper()
	loaded, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(loaded.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
