package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// WriteScratch writes an OCI archive with an image that holds one static
// program, as its entry point, and nothing else.
func WriteScratch(archive, name, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	base := filepath.Base(program)
	layer, err := tarOf([]file{{base, 0o755, content}})
	if err != nil {
		return err
	}
	configuration, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/" + base}, "User": "65532:65532", "WorkingDir": "/"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        describe("application/vnd.oci.image.config.v1+json", configuration),
		"layers":        []descriptor{describe("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	if err != nil {
		return err
	}
	described := describe("application/vnd.oci.image.manifest.v1+json", manifest)
	described.Annotations = map[string]string{nameAnnotation: name, referenceAnnotation: name}
	listing, err := json.Marshal(index{SchemaVersion: 2, Manifests: []descriptor{described}})
	if err != nil {
		return err
	}
	result, err := tarOf([]file{
		{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", 0o644, listing},
		{blob(configuration), 0o644, configuration},
		{blob(manifest), 0o644, manifest},
		{blob(layer), 0o644, layer},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(archive, result, 0o644)
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func tarOf(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, file := range files {
		header := &tar.Header{Name: file.name, Mode: file.mode, Size: int64(len(file.content)), Typeflag: tar.TypeReg}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(file.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blob(content []byte) string {
	return fmt.Sprintf("blobs/sha256/%s", digest(content)[len("sha256:"):])
}

func describe(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(content), Size: int64(len(content))}
}
