package network

import (
	"net/netip"
	"testing"

	"quadraft.dev/bed/internal/config"
)

func TestARouteIntoTheBedsNetworksIsAConflict(t *testing.T) {
	settings, err := config.FromEnvironment(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	bed, err := config.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	for route, conflict := range map[string]bool{
		"0.0.0.0/0":      false,
		"192.0.2.0/24":   false,
		"10.243.0.0/16":  false,
		"10.244.7.0/24":  true,
		"10.0.0.0/8":     true,
		"10.96.0.10/32":  true,
		"10.97.0.0/16":   false,
		"10.244.0.0/16":  true,
		"172.17.0.0/16":  false,
		"10.244.0.99/32": true,
	} {
		if err := Conflict(bed, []netip.Prefix{netip.MustParsePrefix(route)}); (err != nil) != conflict {
			t.Errorf("%s: %v", route, err)
		}
	}
}
