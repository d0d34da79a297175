;; Writes an object that does not end.
;; expect: no JSON object or array: `{
(data (i32.const 24576) "{\"a\":1")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 5) (i32.const 6) (i32.const 6)))
