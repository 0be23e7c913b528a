// Package intake reads JSON that comes from outside: the bodies of requests, and
// ticket events that somebody has published on the bus. It is strict, and says
// what is wrong in words for the sender.
package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/pealhq/peal"
)

// Raw is a JSON value that is read later.
type Raw = jsontext.Value

// Unmarshal reads data into v, strictly: a name that is unknown, repeated or
// spelled in another case is an error, and so is a string that is not UTF-8. The
// error is a peal.InvalidError, which names the field and quotes nothing.
func Unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true), json.WithUnmarshalers(users)); err != nil {
		return malformed(err)
	}
	return nil
}

// Elements reads data, which has to be an object with a list of that name and nothing
// else, and returns what is in the list, to be read with Unmarshal one by one: what
// is wrong inside of one element, a string that is not UTF-8 too, is nothing to the
// others. A list that is null is absent. The error is as that of Unmarshal.
func Elements(data []byte, list string) (elements []Raw, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if d.PeekKind() != '{' {
		var none *struct{}
		err = json.UnmarshalDecode(d, &none) // it is null, or has the wrong type
	} else {
		elements, err = elementsOf(d, list)
	}
	if err == nil {
		if _, err = d.ReadToken(); err == io.EOF {
			return elements, nil
		}
	}
	if err == nil {
		return nil, peal.Invalid("body", fmt.Sprintf("is not valid JSON at byte %d", d.InputOffset()))
	}
	return nil, malformed(err)
}

// elementsOf reads an object with a list.
func elementsOf(d *jsontext.Decoder, list string) (elements []Raw, err error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	for given := false; d.PeekKind() == '"'; given = true {
		name, err := d.ReadToken()
		switch {
		case err != nil:
			return nil, err
		case name.String() != list:
			return nil, peal.Invalid(fieldOf(d.StackPointer()), "is not a known field")
		case given:
			return nil, peal.Invalid(list, "must not be repeated")
		}
		if err := json.UnmarshalDecode(d, &elements); err != nil {
			return nil, err
		}
	}
	_, err = d.ReadToken()
	return elements, err
}

// users reads user references.
var users = json.UnmarshalFromFunc(func(d *jsontext.Decoder, r *peal.UserRef) (err error) {
	*r = peal.UserRef{}
	switch d.PeekKind() {
	case 'n':
		return d.SkipValue()
	case '"':
		var id string
		if err := json.UnmarshalDecode(d, &id); err != nil || id == "" {
			return err
		}
		*r, err = peal.ParseUserRef(id, "")
		return err
	case '{':
		var object struct {
			ID        string         `json:"id"`
			Namespace peal.Namespace `json:"namespace"`
		}
		if err := json.UnmarshalDecode(d, &object); err != nil {
			return err
		}
		ns, err := peal.ParseNamespace(string(object.Namespace))
		if err == nil {
			*r, err = peal.ParseUserRef(object.ID, ns)
		}
		return AboutUser("user", err)
	}
	return errors.New("must be a string or an object")
})

// AboutUser says of which field with a user reference an error is, and of which
// part of the reference.
func AboutUser(field string, err error) error {
	invalid, ok := errors.AsType[*peal.InvalidError](err)
	if !ok {
		return err
	}
	reason := invalid.Reason
	switch invalid.Field {
	case "user", "namespace":
		reason = "the " + invalid.Field + " " + reason
	}
	return peal.Invalid(field, reason)
}

// WithoutNull refuses JSON, which is valid, that has a null anywhere. The error is a
// peal.InvalidError.
func WithoutNull(data []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return nil // it has ended
		}
		if token.Kind() == 'n' {
			return peal.Invalid(fieldOf(d.StackPointer()), "must not be null")
		}
	}
}

// malformed says what is wrong with a JSON body in words for its sender,
// without quoting it.
func malformed(err error) error {
	if invalid, ok := err.(*peal.InvalidError); ok {
		return invalid
	}
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return peal.Invalid(fieldOf(syntactic.JSONPointer), "must not be repeated")
	case errors.As(err, &syntactic):
		return peal.Invalid(fieldOf(syntactic.JSONPointer), fmt.Sprintf("is not valid JSON at byte %d", syntactic.ByteOffset))
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return peal.Invalid(fieldOf(semantic.JSONPointer), "is not a known field")
	case errors.As(err, &semantic):
		var invalid *peal.InvalidError
		if errors.As(err, &invalid) {
			return peal.Invalid(fieldOf(semantic.JSONPointer), invalid.Reason)
		}
		return peal.Invalid(fieldOf(semantic.JSONPointer), "has the wrong type")
	}
	return peal.Invalid("body", "is not valid JSON")
}

// maxField bounds what is quoted of a field's name in an error.
const maxField = 128

// fieldOf names a place in a JSON body as its sender would; "body" where that can't be
// part of a line. It ends up in logs and headers.
func fieldOf(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	if b.Len() == 0 || b.Len() > maxField || strings.ContainsFunc(b.String(), unicode.IsControl) {
		return "body"
	}
	return b.String()
}
